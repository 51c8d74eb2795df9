# Two commands matter: `make demo` and `make test`. Both make .venv once; a second call installs nothing.
# Needs Python 3.11 or newer, make and pip; nothing is compiled.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)

# Test processes with one thread each: on 2 cores faster than one process with two threads.
WORKERS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# Wheels to install beside the pinned packages, e.g. WHEELS="../wheels/*.whl" for torch-scatter and torch-sparse.
WHEELS ?=

.PHONY: help demo test test-all lint docs bench dist clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo ## Train SEGNN on QM9 molecules: error, rotation error, checkpoint, picture
	$(PY) examples/qm9_segnn.py $(ARGS)

test: $(VENV)/.test ## Run the test suite
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-all: $(VENV)/.test ## Run the slow tests too
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) --dist loadfile -m "" $(ARGS)

lint: $(VENV)/.test ## Check style, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(VENV)/.docs ## Build the documentation into docs/_build/html, warnings are errors
	$(PY) -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.demo ## Run the benchmark cases, or those in CASES="..."
	$(PY) examples/benchmarks/run.py $(CASES) $(ARGS)

dist: $(VENV)/.test ## Build the source archive and the wheel into dist/
	$(PY) -m build

clean: ## Remove what was built, .venv included
	rm -rf $(VENV) build dist *.egg-info docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov

$(PY):
	@if [ -z "$(PYTHON)" ]; then \
		echo "geomeq needs Python 3.11 or newer, and none was found: install it or name it with make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "geomeq needs Python 3.11 or newer, but PYTHON=$(PYTHON) is $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One resolver run per environment, so that nothing pulls another torch first. The stamp is written last:
# an interrupted install starts again.
INSTALL = $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

$(VENV)/.demo: pyproject.toml constraints.txt | $(PY)
	@echo "Installing geomeq into $(VENV): about a minute"
	$(INSTALL) -e '.[plot]'
	@touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(PY)
	$(INSTALL) -e '.[docs]'
	@touch $@

# The test environment holds the two others.
$(VENV)/.test: pyproject.toml constraints.txt | $(PY)
	@echo "Installing geomeq and what its tests need into $(VENV): about a minute"
	$(INSTALL) -e '.[test]'
	$(if $(WHEELS),$(PY) -m pip install --quiet --disable-pip-version-check --no-deps $(WHEELS))
	@touch $(VENV)/.demo $(VENV)/.docs $@

"""How the tests reach the scripts in ``examples/``, which are no package."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """Imports ``examples/NAME.py``."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def one_thread() -> dict[str, str]:
    """An environment for a child process that leaves the other cores alone."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]

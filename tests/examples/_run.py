"""How the tests reach the scripts in ``examples/``, which are no package."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """Imports ``examples/NAME.py``, which finds what lies beside it as a script does."""
    path = EXAMPLES / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


def one_thread() -> dict[str, str]:
    """An environment for a child process that leaves the other cores alone."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]

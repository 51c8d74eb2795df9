"""What ``import geomeq`` costs on top of ``import torch_geometric``, in fresh interpreters."""

import subprocess
import sys

from harness import Case, Claim, Problem, Results


def interpreter(statement: str):
    def prepare(problem: Problem):
        def run() -> Results:
            subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True)
            return {}

        return run

    return prepare


CASES = [
    Case(
        "import_time",
        "a fresh interpreter that imports and leaves",
        sizes={"": {}},
        quick={"": {}},
        setup=dict,
        contenders={
            "torch_geometric": interpreter("import torch_geometric"),
            "torch_geometric, geomeq": interpreter("import torch_geometric, geomeq"),
            "torch_geometric, geomeq.ops": interpreter("import torch_geometric, geomeq.ops"),
        },
        peer="torch_geometric",
        claims=(Claim("adds at most 0.3 s", "torch_geometric, geomeq", "torch_geometric", plus=0.3),),
        memory=False,
    ),
]

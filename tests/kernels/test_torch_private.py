"""Private names of torch are called from one module."""

import re

from tests.paths import ROOT

PRIVATE = re.compile(r"\btorch\._\w|\btorch\.ops\.\w|from torch\._|from torch\.utils\._|\baten\._\w+\(|import torch\._")


def test_private_names_of_torch_stand_in_one_module() -> None:
    uses = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("advisor", "benchmarks", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "torch_private.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if PRIVATE.search(line) and "torch.__version__" not in line
    ]
    assert not uses, "\n".join(uses)

"""Tools that write over what stands in the tree: asked for help, or for what they do not know, they write nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRITERS = {
    "accuracy_page": ROOT / "docs" / "accuracy.md",
    "fit_kernels": ROOT / "advisor" / "profiles" / "evidence" / "gemm_efficiency.csv",
    "evaluate_kernels": ROOT / "benchmarks" / "results" / "kernels.md",
    "readme_table": ROOT / "README.md",
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("--chekc", 2)])
def test_a_tool_that_is_asked_for_help_writes_nothing(name: str, option: str, code: int) -> None:
    written = WRITERS[name]
    before = written.stat().st_mtime_ns if written.exists() else None
    done = subprocess.run([sys.executable, "-m", f"tools.{name}", option], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "usage:" in done.stdout + done.stderr) == (code, True)
    assert before == (written.stat().st_mtime_ns if written.exists() else None)

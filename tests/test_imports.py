"""What may import what, where import-linter cannot see: kernels is a namespace, and planning must stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import advisor

PACKAGE = Path(advisor.__file__).parent
KERNELS_MAY_IMPORT = {"torch", "triton", "advisor"}
HEAVY = ("torch", "triton", "transformers", "textual", "rich", "accelerate")


def imported_by(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernels").glob("*.py")), ids=lambda path: path.stem)
def test_kernels_know_only_torch_triton_and_each_other(path: Path) -> None:
    for name in imported_by(path):
        top = name.split(".")[0]
        assert top in KERNELS_MAY_IMPORT or top in sys.stdlib_module_names, f"{path.name} imports {name}"
        if top == "advisor":
            assert name.startswith("advisor.kernels"), f"{path.name} imports {name}"


def test_only_backends_import_kernels() -> None:
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE).parts[0] in ("backends", "kernels")
        if not inside:
            found = [name for name in imported_by(path) if name.startswith("advisor.kernels")]
            assert not found, f"{path.relative_to(PACKAGE)} imports {found}"


def test_kernels_has_no_init_file() -> None:
    assert not (PACKAGE / "kernels" / "__init__.py").exists()


def heavy_modules_after(*arguments: str) -> list[str]:
    code = (
        "import sys\n"
        "from advisor.__main__ import main\n"
        f"sys.argv = ['advisor', *{list(arguments)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("HEAVY"))
    return [str(name) for name in ast.literal_eval(line[6:])]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("plan", "meta-llama/Meta-Llama-3.1-8B", "--hardware", "h100-sxm", "--tpot-ms", "10", "--context", "32768", "--concurrency", "16"),
        ("estimate", "Qwen/Qwen3-8B", "--hardware", "l40s", "--prompt-tokens", "512", "--output-tokens", "64"),
        ("models", "list"),
        ("hardware", "list"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_planning_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert heavy_modules_after(*arguments) == []


def test_transformers_imports_from_the_repository_root_beside_a_distribution_called_kernels(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `run` is not installed")
    stand_in = tmp_path / "kernels"
    stand_in.mkdir()
    (stand_in / "__init__.py").write_text("__version__ = '0.0.0'\n", encoding="utf-8")
    root = PACKAGE.parent
    code = f"import sys; sys.path.insert(1, {str(tmp_path)!r}); import transformers, advisor.profiles.architectures.spec"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

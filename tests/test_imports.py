"""What may import what: no ring, nothing upward, kernels by themselves, and planning without heavy libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import advisor
from tests.paths import ROOT
from tools.structure import ambiguous_classes, entries, import_graph, imports, layers, rings, upward_imports

PACKAGE = Path(advisor.__file__).parent
KERNELS_MAY_IMPORT = {"torch", "triton", "advisor"}
HEAVY = ("torch", "triton", "transformers", "textual", "rich", "accelerate")
HEAVY_WITHOUT_PLANNING = (*HEAVY, "numpy")
NOT_COLLECTED = ("torch", "triton", "transformers", "accelerate")
"""What no test file imports when it is collected: every process of the suite would wait for it, whichever tests it runs."""


def test_no_ring_of_imports_at_any_level() -> None:
    assert rings(import_graph(ROOT)) == []


def test_no_import_runs_upward() -> None:
    assert upward_imports(import_graph(ROOT), layers()) == []


def test_every_entry_of_the_package_has_its_layer() -> None:
    assert {name.removesuffix(".py") for name in entries(PACKAGE)} == set().union(*layers())
    assert len(entries(PACKAGE)) <= 17


def test_a_class_name_means_one_thing() -> None:
    assert len(ambiguous_classes(PACKAGE)) < 10


def written(root: Path, **sources: str) -> Path:
    for name, source in sources.items():
        path = root / "advisor" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return root


def test_rings_are_found_among_modules_and_among_packages(tmp_path: Path) -> None:
    root = written(
        tmp_path,
        a__x="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from advisor.a.y import Y",
        a__y="def f():\n    from advisor.a import x",
        b__x="import advisor.c.x",
        c__x="",
        c__y="import advisor.b.x",
    )
    assert rings(import_graph(root)) == [["advisor.b", "advisor.c"], ["advisor.a.x", "advisor.a.y"]]


def test_an_upward_import_and_one_between_siblings_are_found(tmp_path: Path) -> None:
    root = written(tmp_path, low__x="import advisor.high.x", high__x="import advisor.low.y", low__y="", other__x="import advisor.low.y")
    order = (frozenset({"high"}), frozenset({"low", "other"}))
    upward = upward_imports(import_graph(root), order)
    assert upward == [("advisor.low.x", "advisor.high.x"), ("advisor.other.x", "advisor.low.y")]


def test_a_class_of_two_modules_is_found(tmp_path: Path) -> None:
    root = written(tmp_path, a="class Part: ...\nclass _Own: ...", b="class Part: ...\nclass _Own: ...")
    assert ambiguous_classes(root / "advisor") == {"Part": ["a.py", "b.py"]}


def imported_by(path: Path) -> set[str]:
    return {module for module, _ in imports(path)}


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernels").rglob("*.py")), ids=lambda path: path.stem)
def test_kernels_import_only_torch_triton_and_each_other(path: Path) -> None:
    for name in imported_by(path):
        top = name.split(".")[0]
        assert top in KERNELS_MAY_IMPORT or top in sys.stdlib_module_names, f"{path.name} imports {name}"
        if top == "advisor":
            assert name.startswith("advisor.kernels"), f"{path.name} imports {name}"


def test_only_backends_import_kernels() -> None:
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE).parts[0] in ("backends", "kernels")
        if not inside:
            forbidden = [name for name in imported_by(path) if name.startswith("advisor.kernels")]
            assert not forbidden, f"{path.relative_to(PACKAGE)} imports {forbidden}"


def test_kernels_has_no_init_file() -> None:
    assert not (PACKAGE / "kernels" / "__init__.py").exists()


def heavy_modules_after(*arguments: str, heavy: tuple[str, ...] = HEAVY) -> list[str]:
    code = (
        "import sys\n"
        "from advisor.__main__ import main\n"
        f"sys.argv = ['advisor', *{list(arguments)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', [name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("HEAVY"))
    return [str(name) for name in ast.literal_eval(line[6:])]


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "meta-llama/Meta-Llama-3.1-8B", "--hardware", "h100-sxm", "--tpot-ms", "10", "--context", "32768", "--concurrency", "16"),
        ("estimate", "Qwen/Qwen3-8B", "--hardware", "l40s", "--prompt-tokens", "512", "--output-tokens", "64"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_planning_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert heavy_modules_after(*arguments) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("plan", "--help"),
        ("models",),
        ("models", "show", "Qwen/Qwen3-8B"),
        ("hardware",),
        ("hardware", "show", "h100-sxm"),
        ("explain",),
        ("explain", "kv-window"),
    ],
    ids=" ".join,
)
def test_help_the_catalogues_and_explanations_load_no_numpy_either(arguments: tuple[str, ...]) -> None:
    assert heavy_modules_after(*arguments, heavy=HEAVY_WITHOUT_PLANNING) == []


def test_profiles_do_not_import_numpy() -> None:
    for path in (PACKAGE / "profiles").rglob("*.py"):
        assert "numpy" not in {name.split(".")[0] for name in imported_by(path)}, path.name


def test_transformers_imports_from_the_repository_root_beside_a_distribution_called_kernels(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `run` is not installed")
    stand_in = tmp_path / "kernels"
    stand_in.mkdir()
    (stand_in / "__init__.py").write_text("__version__ = '0.0.0'\n", encoding="utf-8")
    root = PACKAGE.parent
    code = f"import sys; sys.path.insert(1, {str(tmp_path)!r}); import transformers, advisor.profiles.architectures.spec"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def imports_on_loading(path: Path) -> set[str]:
    """Modules that a file imports when it is loaded: not those inside functions or for type checkers."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            pending += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.expr):
            pending += ast.iter_child_nodes(node)
    return names


def heavy_imports(root: Path, heavy: tuple[str, ...] = NOT_COLLECTED) -> dict[str, list[str]]:
    """Test files that load a heavy library when they are collected, each with the chain of files that leads to it."""
    files = [path for folder in ("advisor", "benchmarks", "tools", "tests") for path in sorted((root / folder).rglob("*.py"))]
    modules = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    loaded: dict[Path, set[str]] = {}
    chains: dict[str, list[str]] = {}
    for test in (path for path in files if path.match("test_*.py") or path.name == "conftest.py"):
        pending, seen = [[test]], {test}
        while pending and str(test.relative_to(root)) not in chains:
            chain = pending.pop()
            if chain[-1] not in loaded:
                loaded[chain[-1]] = imports_on_loading(chain[-1])
            for name in sorted(loaded[chain[-1]]):
                if name.split(".")[0] in heavy:
                    chains.setdefault(str(test.relative_to(root)), [*(str(path.relative_to(root)) for path in chain[1:]), name])
                parents = (".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 2))
                for path in (modules[parent] for parent in parents if parent in modules):
                    if path not in seen and path.is_relative_to(root):
                        seen.add(path)
                        pending.append([*chain, path])
    return chains


def test_no_heavy_library_is_imported_when_tests_are_collected() -> None:
    chains = heavy_imports(ROOT)
    assert not chains, "import these inside tests and fixtures:\n" + "\n".join(
        f"{test}: {' > '.join(chain)}" for test, chain in chains.items()
    )


def test_heavy_imports_are_found_through_other_modules_and_only_those_on_loading(tmp_path: Path) -> None:
    sources = {
        "advisor/a/x.py": "import torch.nn",
        "advisor/b/y.py": "try:\n    from advisor.a import x\nexcept ImportError:\n    x = None",
        "advisor/c/__init__.py": "from triton import language",
        "advisor/c/z.py": "def f():\n    import torch",
        "tests/test_far.py": "from advisor.b.y import x",
        "tests/test_package.py": "import advisor.c.z",
        "tests/test_inside.py": "def test_it():\n    import torch",
        "tests/test_types.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source, encoding="utf-8")
    chains = heavy_imports(tmp_path)
    assert chains["tests/test_far.py"] == ["advisor/b/y.py", "advisor/a/x.py", "torch.nn"]
    assert chains["tests/test_package.py"] == ["advisor/c/__init__.py", "triton"]
    assert len(chains) == 2

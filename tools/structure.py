"""The shape of the code, counted: entries under advisor/, rings of imports, imports that run upward, class names with several meanings.

usage: python -m tools.structure        prints the counts and what each consists of; exit code 1 where there is a ring or an upward import
"""

import ast
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = ("advisor", "benchmarks", "tools")
Graph = Mapping[str, frozenset[str]]
"""Each module (or package) and what it imports."""


def main() -> int:
    """Print the counts. Returns 1 for a ring of imports or an import that runs upward, else 0."""
    graph = import_graph(ROOT)
    all_rings, upward, names = rings(graph), upward_imports(graph, layers()), ambiguous_classes(ROOT / "advisor")
    print(f"code entries directly under advisor/: {len(entries(ROOT / 'advisor'))}")
    print(f"rings of imports: {len(all_rings)}")
    for ring in all_rings:
        print(f"  {' <-> '.join(ring)}")
    print(f"imports that run upward: {len(upward)}")
    for importer, imported in upward:
        print(f"  {importer} -> {imported}")
    print(f"public class names with several meanings: {len(names)}")
    for name, files in sorted(names.items()):
        print(f"  {name}: {', '.join(files)}")
    return 1 if all_rings or upward else 0


def entries(package: Path) -> list[str]:
    """Modules and packages directly under a package, its own `__init__.py` not counted."""
    modules = (path.name for path in package.glob("*.py") if path.name != "__init__.py")
    packages = (path.name for path in package.iterdir() if path.is_dir() and any(path.rglob("*.py")))
    return sorted([*modules, *packages])


def import_graph(root: Path) -> dict[str, frozenset[str]]:
    """Every module of `CODE` and the modules of `CODE` that it imports: at the top, inside functions and for type checking alike."""
    modules = {_name(root, path): path for folder in CODE for path in (root / folder).rglob("*.py")}
    return {name: _imported(path, modules) - {name} for name, path in modules.items()}


def rings(graph: Graph) -> list[list[str]]:
    """Groups of sibling modules and packages that import one another, directly or not, at every depth.

    A ring of modules is one of siblings too: of those just below the package that holds all of it.
    """
    return [ring for parent in _parents(graph) for ring in _cycles(_siblings(graph, parent))]


def upward_imports(graph: Graph, order: tuple[frozenset[str], ...]) -> list[tuple[str, str]]:
    """Imports between packages of `advisor` that do not run from a layer of `order` to a lower one, as (importer, imported)."""
    rank = {name: index for index, layer in enumerate(order) for name in layer}
    pairs = ((importer, imported) for importer, all_imported in graph.items() for imported in all_imported)
    return sorted(
        (importer, imported)
        for importer, imported in pairs
        if (above := _package(importer)) in rank and (below := _package(imported)) in rank and above != below and rank[above] >= rank[below]
    )


def layers() -> tuple[frozenset[str], ...]:
    """The layers of the import contract in `pyproject.toml`, top first, and `kernels`, which import-linter cannot see."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    declared = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    order = [frozenset(name.strip() for name in layer.split("|")) for layer in declared]
    return (*order[:-1], order[-1] | {"kernels"})


def ambiguous_classes(package: Path) -> dict[str, list[str]]:
    """Names of public classes that several modules define, with the modules."""
    defined: dict[str, list[str]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                defined[node.name].append(str(path.relative_to(package)))
    return {name: files for name, files in defined.items() if len(files) > 1}


def imports(path: Path) -> set[tuple[str, str]]:
    """What a file imports, anywhere in it: modules, each with the whole name of what is taken from it, or with its own.

    `import a.b` is `("a.b", "a.b")`, `from a import b` is `("a", "a.b")`. Relative imports are left out.
    """
    pairs: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            pairs |= {(alias.name, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            pairs |= {(node.module, f"{node.module}.{alias.name}") for alias in node.names}
    return pairs


def _name(root: Path, path: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _package(module: str) -> str:
    """The entry under `advisor` that a module belongs to; empty for other code."""
    parts = module.split(".")
    return parts[1] if parts[0] == "advisor" and len(parts) > 1 else ""


def _imported(path: Path, modules: Iterable[str]) -> frozenset[str]:
    names = {name if name in modules else module for module, name in imports(path)}
    return frozenset(names & set(modules))


def _parents(graph: Graph) -> list[str]:
    """Packages that hold packages or modules, and the empty name, which holds the outermost."""
    parts = (name.split(".") for name in graph)
    return sorted({".".join(names[:depth]) for names in parts for depth in range(len(names))})


def _siblings(graph: Graph, parent: str) -> dict[str, frozenset[str]]:
    """What stands directly in a package, with the imports between them; the package's own `__init__` is left out."""

    prefix, depth = (f"{parent}.", parent.count(".") + 1) if parent else ("", 0)

    def child(module: str) -> str | None:
        return ".".join(module.split(".")[: depth + 1]) if module.startswith(prefix) and module != parent else None

    imports: dict[str, set[str]] = defaultdict(set)
    for importer, imported in graph.items():
        if (above := child(importer)) is not None:
            imports[above] |= {below for module in imported if (below := child(module)) is not None and below != above}
    return {name: frozenset(imported) for name, imported in imports.items()}


def _cycles(graph: Graph) -> list[list[str]]:
    """Strongly connected components of two nodes and more (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                components.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return components


if __name__ == "__main__":
    sys.exit(main())

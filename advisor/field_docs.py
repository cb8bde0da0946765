"""What the source says about the fields of a record: the text below each of them.

Read on demand: pydantic's own reading of it doubles the time that planning takes to start.
"""

import ast
import inspect

from pydantic import BaseModel


def field_docs(record: type[BaseModel]) -> dict[str, dict[str, str]]:
    """Class name to field name to text, for every class in the module of `record`."""
    module = inspect.getmodule(record)
    assert module is not None
    tree = ast.parse(inspect.getsource(module))
    return {node.name: _of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for statement, after in zip(node.body, node.body[1:], strict=False):
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and told:
            texts[statement.target.id] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]  # told by the line above
    return texts

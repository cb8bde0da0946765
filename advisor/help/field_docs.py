"""What the source says about the fields of a record: the text below each of them.

Read on demand: pydantic's own reading of it doubles the time that planning takes to start.
"""

import ast
import inspect
import sys
from collections.abc import Iterator

from pydantic import BaseModel


def field_docs(record: type[BaseModel]) -> dict[str, dict[str, str]]:
    """Class name to field name to text, for the record and every record below it."""
    modules = {sys.modules[part.__module__] for part in records_under(record)}
    trees = [ast.parse(inspect.getsource(module)) for module in modules]
    return {node.name: _of_class(node) for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def records_under(annotation: object) -> Iterator[type[BaseModel]]:
    """The record itself, or those that stand in an annotation, and all below them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from records_under(field.annotation)
    for part in getattr(annotation, "__args__", ()):
        yield from records_under(part)


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for statement, after in zip(node.body, node.body[1:], strict=False):
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and told:
            texts[statement.target.id] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]  # told by the line above
    return texts

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
    records = set(records_under(record))
    modules = {sys.modules[part.__module__] for part in records}
    trees = [ast.parse(inspect.getsource(module)) for module in modules]
    written = {node.name: _of_class(node) for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    return written | {part.__name__: _with_bases(part, written) for part in records}


def _with_bases(record: type[BaseModel], written: dict[str, dict[str, str]]) -> dict[str, str]:
    """The texts of a record's own fields, of those of its bases, and of fields that were made from a table, which carry theirs."""
    carried = {name: field.description for name, field in record.model_fields.items() if field.description}
    inherited = [written.get(base.__name__, {}) for base in reversed(record.__mro__)]
    return carried | {name: text for texts in inherited for name, text in texts.items()}


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

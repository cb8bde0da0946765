"""The docstring below each field of a record, read from the source.

Read on demand, because pydantic's own `use_attribute_docstrings` doubles the start-up time of planning.
"""

import ast
import inspect
import sys
from collections.abc import Iterator

from pydantic import BaseModel


def field_docs(record: type[BaseModel]) -> dict[str, dict[str, str]]:
    """Class name to field name to docstring, for the record and every record nested in it."""
    records = set(records_under(record))
    modules = {sys.modules[part.__module__] for part in records}
    trees = [ast.parse(inspect.getsource(module)) for module in modules]
    docstrings = {node.name: _of_class(node) for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    return docstrings | {part.__name__: _with_bases(part, docstrings) for part in records}


def _with_bases(record: type[BaseModel], docstrings: dict[str, dict[str, str]]) -> dict[str, str]:
    """The docstrings of a record's own and inherited fields; fields made from a table have a description instead."""
    described = {name: field.description for name, field in record.model_fields.items() if field.description}
    inherited = [docstrings.get(base.__name__, {}) for base in reversed(record.__mro__)]
    return described | {name: text for texts in inherited for name, text in texts.items()}


def records_under(annotation: object) -> Iterator[type[BaseModel]]:
    """The record itself, or the records in an annotation, and every record nested in them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from records_under(field.annotation)
    for part in getattr(annotation, "__args__", ()):
        yield from records_under(part)


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for statement, after in zip(node.body, node.body[1:], strict=False):
        documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and documented:
            texts[statement.target.id] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]  # checked by `documented`
    return texts

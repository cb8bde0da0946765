"""Reads a plan file: safely, every bad field reported at once with its line."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from advisor import __version__
from advisor.planfile.file import FORMAT, MAJOR, PlanFile
from advisor.planfile.yaml import to_yaml
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import is_file, read_text, read_yaml, write_whole
from advisor.quantities.limits import LIMITS
from advisor.quantities.parsing import COUNT, TOKENS, Quantity

_QUANTITIES = {"_tokens": TOKENS, "concurrency": COUNT} | {limit.file_key: limit.quantity for limit in LIMITS.values() if not limit.is_load}
"""Endings of the keys under `limits`, each with what may be typed there."""
_MOST_SHOWN = 20


def read_plan(path: Path) -> PlanFile:
    """The plan in a file. Unknown keys of the same major version are preserved (`PlanFile.unknown_keys`).

    Raises `AdvisorError`: what `read_yaml` raises, `plan-format` for another major, `plan-field` for wrong fields.
    """
    text = read_text(path, what="plan")
    record = read_yaml(text, what="plan", file=path)
    if not isinstance(record, dict) or record.get("kind") != "Plan":
        got = f"kind: {record.get('kind')}" if isinstance(record, dict) else type(record).__name__
        raise _error(
            "plan-field", f"{path} is no plan: expected `kind: Plan`, got {got}", path, 1, help=("advisor plan MODEL -o plan.yaml",)
        )
    _check_format(record.get("format"), path)
    try:
        return PlanFile.model_validate(record)
    except ValidationError as error:
        raise _field_error(error, path, text) from error


def _check_format(given: object, path: Path) -> None:
    if isinstance(given, str) and re.fullmatch(rf"{MAJOR}\.\d+", given):
        return
    if isinstance(given, float | int):
        raise _error(
            "plan-format", f"{path}: `format` must be quoted text, got the number {given}", path, None, help=(f'write format: "{given}"',)
        )
    raise _error(
        "plan-format",
        f'{path} has format "{given}"; advisor {__version__} reads format "{FORMAT}" and later minors of {MAJOR}',
        path,
        None,
        help=("make the plan again: advisor plan MODEL -o plan.yaml, or install the advisor that wrote it",),
    )


def _field_error(error: ValidationError, path: Path, text: str) -> AdvisorError:
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    errors = sorted((_line_of(root, item["loc"]), item["loc"], item["msg"], item.get("input")) for item in _unique(error))
    sentences = [f"{path}:{line}: {_sentence(loc, message, given)}" for line, loc, message, given in errors]
    hints = [hint for _, loc, _, given in errors if (hint := _hint(loc, given))]
    extra = (f"and {len(sentences) - _MOST_SHOWN} more",) if len(sentences) > _MOST_SHOWN else ()
    return _error(
        "plan-field",
        sentences[0],
        path,
        errors[0][0],
        notes=(*sentences[1:_MOST_SHOWN], *extra),
        help=tuple(dict.fromkeys(hints)) or ("advisor explain plan-field   says what each section holds",),
    )


def _unique(error: ValidationError) -> list[Any]:
    """The first error of each field, with its path as text."""
    errors: dict[tuple[str, ...], Any] = {}
    for item in error.errors(include_url=False):
        field = tuple(str(part) for part in item["loc"])
        errors.setdefault(field, {"loc": field, "msg": item["msg"], "input": repr_of(item["input"])})
    return list(errors.values())


def repr_of(value: object) -> str:
    """A value for a message: shortened, text in double quotes."""
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _sentence(field: tuple[str, ...], message: str, given: str) -> str:
    name = ".".join(field)
    if message == "Field required":
        return f"`{name}` is missing"
    quantity = _quantity(field)
    if quantity and message.startswith("Input should be a valid"):
        return f"`{name}` must be {quantity.what.replace('a time in', 'a number of')}, got {given}"
    if message.startswith("String should match pattern "):
        return f"`{name}` must match {message.removeprefix('String should match pattern ')}, got {given}"
    expected = message.removeprefix("Input should be ").removeprefix("Value error, ")
    return f"`{name}` must be {expected}, got {given}"


def _hint(field: tuple[str, ...], given: str) -> str | None:
    quantity = _quantity(field)
    if quantity is None or not given.startswith('"'):
        return None
    try:
        number = quantity.read(given.strip('"'))
    except ValueError:
        return f"write {field[-1]}: {quantity.example}, or null for no limit"
    return f"write {field[-1]}: {number:g}"


def _quantity(field: tuple[str, ...]) -> Quantity | None:
    if field[0] != "limits":
        return None
    return next((quantity for ending, quantity in _QUANTITIES.items() if field[-1].endswith(ending)), None)


def _line_of(root: yaml.Node | None, field: tuple[str, ...]) -> int:
    """The line of the deepest part of a field's path that is in the file."""
    node, line = root, 1
    for part in field:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            if pair is None:
                return line
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
    return line


def _error(
    code: str, message: str, path: Path, line: int | None, *, notes: tuple[str, ...] = (), help: tuple[str, ...] = ()
) -> AdvisorError:
    return AdvisorError(code, message, exit_code=ExitCode.USAGE, notes=notes, help=help, file=str(path), line=line)


def save_plan(plan: PlanFile, path: Path) -> bool:
    """Write the plan unless the file differs only in its time; returns whether it was written. Raises as `write_whole` does."""
    if is_file(path) and _is_same_plan(plan, path):
        return False
    write_whole(path, to_yaml(plan))
    return True


def replaced_by(plan: PlanFile, path: Path) -> str | None:
    """What saving the plan to a file would overwrite, as text; `None` for nothing or the same plan."""
    if not is_file(path) or _is_same_plan(plan, path):
        return None
    try:
        before = read_plan(path)
    except AdvisorError:
        return "a file that is no plan"
    return f"another plan, {before.id}: {before.title}"


def _is_same_plan(plan: PlanFile, path: Path) -> bool:
    try:
        before = read_plan(path)
    except AdvisorError:
        return False
    stamped = before.provenance.model_copy(update={"created": plan.provenance.created})
    return before.model_copy(update={"provenance": stamped}) == plan

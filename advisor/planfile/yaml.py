"""Writes a plan as YAML: one metric to a line, quoted where YAML 1.1 would misread, the same bytes for the same plan."""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from advisor.planfile.decision import PlanPart
from advisor.planfile.file import PlanFile
from advisor.planfile.sections import PlanLimits

_HEAD = """\
# advisor plan. Commit this file. To change it, edit `limits` and plan again, or edit `apply` and run it with --accept-edits.
# Sections go from what a person decides to what a machine recorded.
"""
_NOTES = {
    "limits": "what was asked; null is not limited",
    "machine": "what the numbers are for; `advisor apply` refuses when the fingerprint differs",
    "apply": "the decision; this is what `advisor apply` runs",
    "predicted": "value is the model's middle, range the 90 % interval, basis how it is known",
    "techniques": "fixed order, so that two plans differ line by line",
    "quality": "suite null: not measured for this plan",
}
_PLAIN = re.compile(r"[A-Za-z_/<(+≤≥][^\n\r\t\"'`#:{}\[\],&*!|>%@?\\]*")
# Words that YAML 1.1 reads as something other than a string.
_TRAPS = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null|nan|inf|[-+]?[\d.].*|\.(nan|inf)|~|=|<<")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def to_yaml(plan: PlanFile) -> str:
    """The plan as the text of its file."""
    lines: list[str] = []
    for key, value in plan_record(plan).items():
        if isinstance(value, dict | list):
            lines.append("")
        note = f"  # {_NOTES[key]}" if key in _NOTES else ""
        if isinstance(value, dict | list) and value:
            lines.append(f"{key}:{note}")
            lines.extend(_block(value, 1))
        else:
            lines.append(f"{key}: {_flow(value)}{note}")
    return _HEAD + "\n".join(lines) + "\n"


# Absent keys that are written as null; all others are left out.
_SPOKEN = {"speculative", "suite", "profile", "measured"}
_QUIET_LIMITS = {
    "length_spread",
    "load",
    "use_case",
    "oversubscribe",
    "prompt_tokens",
    "request_rate_per_s",
    "concurrency",
    "load_trace",
    "shared_prefix_tokens",
}


def plan_record(part: PlanPart) -> dict[str, Any]:
    """A plan or one of its sections as plain data, in the order of its fields, without what is absent."""
    shown: dict[str, Any] = {}
    for name, value in (*((name, getattr(part, name)) for name in type(part).model_fields), *(part.model_extra or {}).items()):
        spoken = name in _SPOKEN or (isinstance(part, PlanLimits) and name not in _QUIET_LIMITS)
        if name in type(part).model_fields and (value in ((), {}) or (value is None and not spoken)):
            continue
        shown[name] = _plain(value)
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, PlanPart):
        return plan_record(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _block(value: Mapping[str, Any] | list[Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, list):
        for item in value:
            inner = list(_block(item, depth + 1)) if depth == 1 and isinstance(item, dict) else [indent + "  " + _flow(item)]
            yield f"{indent}- {inner[0].lstrip()}"
            yield from inner[1:]
        return
    for key, item in value.items():
        if _is_block(item, depth):
            yield f"{indent}{_key(key)}:"
            yield from _block(item, depth + 1)
        else:
            yield f"{indent}{_key(key)}: {_flow(item)}"


def _is_block(item: Any, depth: int) -> bool:
    """A section's own mappings and lists of mappings are written out; leaves, such as one metric, stay on one line."""
    if isinstance(item, dict):
        return any(isinstance(inner, dict) and inner for inner in item.values())
    return isinstance(item, list) and depth == 1 and any(isinstance(inner, dict) for inner in item)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return plain_number(value)
    return _text(str(value))


def plain_number(value: float) -> str:
    """The shortest decimals that read back as the same number; never an exponent, which YAML 1.1 takes for a string."""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _key(text: str) -> str:
    return _text(text)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and not _TRAPS.fullmatch(text) and not _UNPRINTABLE.search(text) and text == text.strip():
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", quoted)

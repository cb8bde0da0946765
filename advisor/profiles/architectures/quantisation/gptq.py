"""Reads the configurations of GPTQ (AutoGPTQ, GPTQModel) and AWQ: packed integers in groups of weights.

GPTQModel's `dynamic` holds expressions matched from the start of a module's full path, in order (quantization/config.py: dynamic_get):
`-:` leaves the module out, `+:` or neither overrides bits and groups of the module.
"""

import re
from dataclasses import dataclass

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation.integers import GPTQ, PACKED_ZEROS, SYMMETRIC, group_size, integers
from advisor.profiles.architectures.quantisation.module import OUTSIDE_LINEARS, Module, Quantisation
from advisor.profiles.architectures.quantisation.patterns import by_component, by_substring, expression


@dataclass(frozen=True, slots=True)
class _Dynamic:
    """One entry of `dynamic`; without a format it leaves modules out."""

    pattern: re.Pattern[str]
    format: str | None


def gptq(fields: Fields) -> Quantisation:
    """The quantisation of GPTQ. Raises `AdvisorError` `model-config` naming the key at fault."""
    default, dynamic = _gptq_format(fields), _dynamic(fields)
    skipped = by_component(fields, fields.items("modules_to_not_convert") or [])
    in_layer = _flat(fields.values.get("modules_in_block_to_quantize") or fields.values.get("inside_layer_modules"))
    head = fields.flag("lm_head", default=False)

    def resolve(module: Module) -> str | None:
        if module.kind == "head" and not head:
            return None
        rule = next((rule for rule in dynamic if rule.pattern.match(module.path)), None)
        if rule is not None and module.kind not in ("embedding", "router"):
            return rule.format
        if module.kind == "head":
            return default
        outside = module.kind in OUTSIDE_LINEARS or skipped(module)
        return None if outside or not _inside(module, in_layer) else default

    return Quantisation(resolve=resolve)


def _gptq_format(fields: Fields) -> str:
    # Marlin's own layout has neither zero points nor an index (AutoGPTQ: `checkpoint_format`).
    marlin = fields.word("checkpoint_format") == "marlin" or fields.flag("is_marlin_format", default=False)
    return integers(fields, fields.count("bits", "w_bit"), group_size(fields), SYMMETRIC if marlin else GPTQ)


def _dynamic(fields: Fields) -> list[_Dynamic]:
    rules = fields.inner("dynamic")
    if rules is None:
        return []
    return [_dynamic_rule(fields, rules, text) for text in rules.values]


def _dynamic_rule(fields: Fields, rules: Fields, text: str) -> _Dynamic:
    if text.startswith("-:"):
        return _Dynamic(expression(fields, text[2:]), None)
    changed = rules.inner(text)
    merged = Fields({**fields.values, **(changed.values if changed else {})}, fields.where)
    return _Dynamic(expression(fields, text.removeprefix("+:")), _gptq_format(merged))


def _flat(entries: object) -> frozenset[str] | None:
    """The names in lists of lists; `None` without any."""
    if not isinstance(entries, list) or not entries:
        return None
    return frozenset(name for entry in entries for name in (entry if isinstance(entry, list) else [entry]) if isinstance(name, str))


def _inside(module: Module, in_layer: frozenset[str] | None) -> bool:
    """Whether a module of a layer is listed; experts are, with any index or none."""
    if in_layer is None or module.relative in in_layer:
        return True
    without_index = re.sub(r"\.\d+(?=\.)", "", module.relative)
    return any(re.sub(r"\.(?:\d+|\{\w+\})(?=\.)", "", name) == without_index for name in in_layer)


def awq(fields: Fields, routers: frozenset[str]) -> Quantisation:
    """The quantisation of AWQ; `routers` are the names of the model's routers. Raises `AdvisorError` `model-config`.

    `modules_to_not_convert` holds parts of paths; the head is never quantised (transformers: `add_default_skips`).
    """
    zeros = fields.flag("zero_point", default=True)
    format = integers(fields, fields.count("bits", "w_bit", default=4), _awq_group(fields), PACKED_ZEROS if zeros else SYMMETRIC)
    skipped = by_substring(fields.items("modules_to_not_convert") or [], routers)

    def resolve(module: Module) -> str | None:
        return None if module.kind in OUTSIDE_LINEARS or skipped(module) else format

    return Quantisation(resolve=resolve)


def _awq_group(fields: Fields) -> int | None:
    return group_size(fields, "group_size", "q_group_size", default=128)

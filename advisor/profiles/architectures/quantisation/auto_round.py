"""Reads the configuration of AutoRound: bits and groups for all linear layers of the blocks, with exceptions by module.

Semantics of vLLM's reader (quantization/inc.py, earlier auto_round.py): `extra_config` holds full paths, or expressions searched for in
the path; `block_name_to_quantize` holds beginnings of paths, and outside of them only what `extra_config` names is quantised.
"""

import re
from collections.abc import Callable

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation.integers import GPTQ, PACKED_ZEROS, group_size, integers
from advisor.profiles.architectures.quantisation.module import OUTSIDE_LINEARS, Module, Quantisation
from advisor.profiles.architectures.quantisation.patterns import expression

_SPECIAL = re.compile(r"[*+?^$()\[\]{}|\\]")


def auto_round(fields: Fields) -> Quantisation:
    """The quantisation of AutoRound. Raises `AdvisorError` `model-config` naming the key at fault."""
    default, blocks = _format(fields), _blocks(fields)
    names: dict[str, str | None] = {}
    expressions: list[tuple[Callable[[str], object], str | None]] = []
    extra = fields.inner("extra_config")
    for text in extra.values if extra else ():
        changed = extra.inner(text) if extra else None
        format = _format(Fields({**fields.values, **(changed.values if changed else {})}, fields.where))
        if _SPECIAL.search(text):
            expressions.append((expression(fields, text).search, format))
        else:
            names[text] = format

    def resolve(module: Module) -> str | None:
        for path in (module.path, *module.aliases):
            if path in names:
                return names[path]
        for search, format in expressions:
            if search(module.path):
                return format
        if module.kind in OUTSIDE_LINEARS or (blocks and not module.path.startswith(blocks)):
            return None
        return default

    return Quantisation(resolve=resolve)


def _blocks(fields: Fields) -> tuple[str, ...]:
    key = "block_name_to_quantize" if fields.values.get("block_name_to_quantize") else "to_quant_block_names"
    value = fields.values.get(key)
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    entries = fields.items(key) or []
    return tuple(name for entry in entries for name in (entry if isinstance(entry, list) else [entry]) if isinstance(name, str))


def _format(fields: Fields) -> str | None:
    bits, kind = fields.count("bits", default=4), fields.word("data_type") or "int"
    if bits >= 16:
        return None
    packing = fields.word("packing_format") or ""
    if kind.startswith("mx"):
        return {4: "mxfp4", 6: "mxfp6", 8: "mxfp8"}.get(bits) or _unknown(fields, bits, kind)
    if kind.startswith("nv"):
        return "nvfp4" if bits == 4 else _unknown(fields, bits, kind)
    if kind.startswith("fp") or "fp8" in packing:
        return "fp8" if bits == 8 else _unknown(fields, bits, kind)
    if not kind.startswith("int"):
        return _unknown(fields, bits, kind)
    # AutoRound's own packing has no `g_idx`; exports for AutoGPTQ do.
    layout = GPTQ if packing.removeprefix("auto_round:") == "auto_gptq" and not packing.startswith("auto_round") else PACKED_ZEROS
    return integers(fields, bits, group_size(fields, "group_size", default=128), layout)


def _unknown(fields: Fields, bits: int, kind: str) -> str:
    raise fields.problem(f"`data_type` {kind!r} with {bits} bits is not supported", "known types: int, mx_fp, nv_fp, fp")

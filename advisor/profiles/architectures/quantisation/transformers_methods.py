"""Reads the configurations of methods that transformers carries out itself: fp8, fbgemm_fp8, mxfp4, nvfp4, bitsandbytes, HQQ and Metal.

Each converts the linear layers except those in a list of modules (quantizers/quantizers_utils.py: should_convert_module); without a
list the head is left out.
"""

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation.integers import HQQ, group_size, integers
from advisor.profiles.architectures.quantisation.module import OUTSIDE_LINEARS, Module, Quantisation
from advisor.profiles.architectures.quantisation.patterns import by_component

SKIP_LISTS = ("modules_to_not_convert", "ignored_layers", "llm_int8_skip_modules", "skip_modules", "ignore", "exclude_modules")
"""Keys of lists of modules that are not converted."""


def _skipped_entries(fields: Fields) -> list[object]:
    return [entry for name in SKIP_LISTS for entry in fields.items(name) or []]


def linears(fields: Fields, format: str, *, head_by_list: bool = False) -> Quantisation:
    """All linear layers in one format, except those listed. `head_by_list`: a list replaces the default, which leaves the head out."""
    entries = _skipped_entries(fields)
    skipped = by_component(fields, entries)

    def resolve(module: Module) -> str | None:
        if module.kind == "head" and head_by_list and entries:
            return None if skipped(module) else format
        return None if module.kind in OUTSIDE_LINEARS or skipped(module) else format

    return Quantisation(resolve=resolve)


def fp8(fields: Fields, text: Fields) -> Quantisation:
    """fp8 in blocks, rows or whole matrices; experts in mxfp4 where `expert_dtype` is fp4 (DeepSeek V4)."""
    if (text.word("expert_dtype") or fields.word("expert_dtype")) != "fp4":
        return linears(fields, "fp8")
    other = linears(fields, "fp8").resolve

    def resolve(module: Module) -> str | None:
        return "mxfp4" if module.kind == "expert" and other(module) else other(module)

    return Quantisation(resolve=resolve)


def mxfp4(fields: Fields) -> Quantisation:
    """mxfp4 of the experts alone, as gpt-oss has it."""
    every = linears(fields, "mxfp4").resolve
    return Quantisation(resolve=lambda module: every(module) if module.kind == "expert" else None)


def bitsandbytes(fields: Fields) -> Quantisation:
    """bitsandbytes with 8 bits, or with 4 bits in blocks of 64, whose scales double quantisation stores in 8 bits."""
    in_8bit, in_4bit = (fields.flag(name, f"_{name}", default=False) for name in ("load_in_8bit", "load_in_4bit"))
    if in_8bit == in_4bit:
        stated = "both `load_in_4bit` and `load_in_8bit` are true" if in_4bit else "neither `load_in_4bit` nor `load_in_8bit` is true"
        raise fields.problem(stated, "one of them is needed")
    if in_8bit:
        return linears(fields, "bnb-int8", head_by_list=True)
    kind = fields.word("bnb_4bit_quant_type") or "fp4"
    if kind not in ("nf4", "fp4"):
        raise fields.problem(f"unknown `bnb_4bit_quant_type` {kind!r}", "known are nf4 and fp4")
    double = fields.flag("bnb_4bit_use_double_quant", default=False)
    return linears(fields, f"bnb-{kind}-dq" if double else f"bnb-{kind}", head_by_list=True)


def hqq(fields: Fields) -> Quantisation:
    """HQQ: bits and groups for all linear layers, or for each by its path within a layer; the head is left out by default."""
    config = fields.inner("quant_config") or fields
    dynamic = fields.inner("dynamic_config")
    parts = dynamic or config
    named = {name: part for name in parts.values if not name.endswith("_quant_params") and (part := _linear(parts, name)) is not None}
    if not named:
        return linears(fields, _hqq_format(config))
    formats = {name: _hqq_format(part) for name, part in named.items()}
    skipped = by_component(fields, _skipped_entries(fields))

    def resolve(module: Module) -> str | None:
        if module.kind in OUTSIDE_LINEARS or skipped(module):
            return None
        return formats.get(module.path) or formats.get(module.relative) or formats.get(module.path.rpartition(".")[2])

    return Quantisation(resolve=resolve)


def _linear(config: Fields, name: str) -> Fields | None:
    """The parameters of one linear layer, if `name` holds some."""
    value = config.values[name]
    if not isinstance(value, dict):
        return None
    return Fields(value, f"{config.where}: {name}") if {"weight_quant_params", "nbits"} & set(value) else None


def _hqq_format(config: Fields) -> str:
    weights = config.inner("weight_quant_params") or config
    return integers(weights, weights.count("nbits", default=4), group_size(weights, "group_size", default=64), HQQ)


def quanto(fields: Fields) -> Quantisation:
    """optimum-quanto: int4 and int2 in groups of 128 with a scale and a shift, int8 and float8 with a scale for each row."""
    formats = {"int8": "int8", "float8": "fp8", "int4": "int4-g128", "int2": "int2-g128"}
    weights = fields.word("weights") or "int8"
    if weights not in formats:
        raise fields.problem(f"unknown `weights` {weights!r}", "known are " + ", ".join(formats))
    return linears(fields, formats[weights])


def metal(fields: Fields) -> Quantisation:
    """Integers with scales and biases of 16 bits, MLX's layout, in safetensors of transformers."""
    return linears(
        fields, integers(fields, fields.count("bits", default=4), group_size(fields, "group_size", default=64)), head_by_list=True
    )

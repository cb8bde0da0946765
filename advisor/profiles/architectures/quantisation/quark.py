"""Reads the configuration of AMD's Quark: a format for all linear layers, with exceptions by path and by class.

Priority as in vLLM (quantization/quark/quark.py: _find_matched_config): `layer_quant_config` by path with wildcards, then
`layer_type_quant_config` by class, then `global_quant_config`; `exclude` leaves modules out.
"""

from collections.abc import Callable

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation.integers import PACKED_ZEROS, SYMMETRIC, group_size, integers
from advisor.profiles.architectures.quantisation.module import OUTSIDE_LINEARS, Module, Quantisation
from advisor.profiles.architectures.quantisation.patterns import by_component, by_wildcard

_FLOATS = {"fp8": "fp8", "fp6": "mxfp6", "fp4": "mxfp4", "mx6": "mxfp6", "mx9": "mxfp8"}
_BITS = {"fp8": 8, "fp6": 6, "fp4": 4, "int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "int3": 3, "int2": 2}


def quark(fields: Fields) -> Quantisation:
    """The quantisation of Quark. Raises `AdvisorError` `model-config` naming the key at fault."""
    default = _format(fields, fields.inner("global_quant_config"))
    layers, classes = fields.inner("layer_quant_config"), fields.inner("layer_type_quant_config")
    by_path = [(_matches(text), _format(fields, layers.inner(text))) for text in layers.values] if layers else []
    by_class = {_class(text): _format(fields, classes.inner(text)) for text in classes.values} if classes else {}
    excluded = by_component(fields, fields.items("exclude") or [])

    def resolve(module: Module) -> str | None:
        if module.kind in ("embedding", "router") or excluded(module):
            return None
        for matches, format in by_path:
            if matches(module.path):
                return format
        if module.kind in OUTSIDE_LINEARS:
            return None
        return next((by_class[name] for name in module.classes if name in by_class), default)

    return Quantisation(resolve=resolve)


def _matches(pattern: str) -> Callable[[str], bool]:
    return by_wildcard(pattern) if "*" in pattern else by_wildcard(f"{pattern}*")


def _class(text: str) -> str:
    """The name of a class in `<class 'torch.nn.modules.linear.Linear'>`, `nn.Linear` or `Linear`."""
    return text.rstrip("'>").rpartition(".")[2]


def _format(fields: Fields, config: Fields | None) -> str | None:
    weights = _weights(config) if config else None
    dtype = weights.word("dtype") if weights else None
    if weights is None or dtype is None or dtype in ("bfloat16", "float16", "float32"):
        return None
    name = (weights.word("mx_element_dtype") or dtype) if dtype == "mx" else dtype
    base = name.partition("_")[0]
    if base == "fp4" and group_size(weights) == 16:
        return "nvfp4"
    if base in _FLOATS:
        return "mxfp8" if base == "fp8" and group_size(weights) == 32 else _FLOATS[base]
    if base not in _BITS:
        raise fields.problem(f"unknown `dtype` {dtype!r} of weights", "known are " + ", ".join(_BITS))
    group = group_size(weights) if weights.word("qscheme") == "per_group" else None
    if base in ("int8", "uint8") and group is None:
        return "int8-w8a8" if config and config.values.get("input_tensors") else "int8"
    return integers(weights, _BITS[base], group, SYMMETRIC if weights.flag("symmetric", default=True) else PACKED_ZEROS)


def _weights(config: Fields) -> Fields | None:
    """The description of weights; of a list, which quantises in several stages, the stage with the fewest bits."""
    value = config.values.get("weight")
    if not isinstance(value, list):
        return config.inner("weight")
    stages = [Fields(stage, config.where) for stage in value if isinstance(stage, dict)]
    return min(stages, key=lambda stage: _BITS.get((stage.word("dtype") or "").partition("_")[0], 16), default=None)

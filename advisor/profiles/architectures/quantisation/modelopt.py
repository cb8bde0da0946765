"""Reads the configuration of NVIDIA's ModelOpt: one algorithm for all linear layers, or one for each with MIXED_PRECISION.

`exclude_modules` (`ignore` in the style of compressed-tensors) holds paths with wildcards.
"""

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation.compressed_tensors import compressed_tensors
from advisor.profiles.architectures.quantisation.integers import group_size, integers
from advisor.profiles.architectures.quantisation.module import OUTSIDE_LINEARS, Module, Quantisation
from advisor.profiles.architectures.quantisation.patterns import by_component

# Beginnings of `quant_algo`; the longest that matches holds.
_ALGORITHMS = {
    "FP8": "fp8", "NVFP4": "nvfp4", "W4A16_NVFP4": "nvfp4", "W4A8_NVFP4": "nvfp4",
    "W4A8_AWQ": "w4a8", "W4A8_MXFP4": "mxfp4", "MXFP4": "mxfp4", "W4A16_MXFP4": "mxfp4", "MXFP8": "mxfp8", "INT8": "int8-w8a8",
    "W8A8_SQ": "int8-w8a8", "W8A16": "int8", "INT8_WO": "int8",
}  # fmt: skip


def modelopt(fields: Fields, *, default: str = "NVFP4") -> Quantisation:
    """The quantisation of ModelOpt. Raises `AdvisorError` `model-config` naming the key at fault."""
    algorithm = fields.word("quant_algo") or default
    excluded = by_component(fields, [*(fields.items("exclude_modules") or []), *(fields.items("ignore") or [])])
    if algorithm == "MIXED_PRECISION":
        return _mixed(fields)
    format = algorithm_format(fields, algorithm)

    def resolve(module: Module) -> str | None:
        return None if module.kind in OUTSIDE_LINEARS or excluded(module) else format

    return Quantisation(resolve=resolve)


def _mixed(fields: Fields) -> Quantisation:
    quantised = fields.inner("quantized_layers")
    if quantised is None and fields.inner("config_groups"):
        return compressed_tensors(fields)
    if quantised is None or not quantised.values:
        raise fields.problem("`quantized_layers` is missing, though `quant_algo` is MIXED_PRECISION")
    formats = {str(path): _named_format(quantised, path) for path in quantised.values}
    patterns = [(by_component(fields, [path]), format) for path, format in formats.items() if "*" in path]
    # Layers that ModelOpt did not quantise have the format of the checkpoint before it: fp8 where `quant_method` is fp8.
    unlisted = "fp8" if fields.word("quant_method") == "fp8" else None

    def resolve(module: Module) -> str | None:
        for path in (module.path, *module.aliases):
            while path:
                if path in formats:
                    return formats[path]
                path = path.rpartition(".")[0]
        return next((format for matches, format in patterns if matches(module)), None)

    return Quantisation(resolve=resolve, unlisted=unlisted)


def _named_format(quantised: Fields, path: str) -> str:
    entry = quantised.inner(path)
    algorithm = entry.word("quant_algo") if entry else None
    if entry is None or algorithm is None:
        raise quantised.problem(f"`{path}` has no `quant_algo`")
    return algorithm_format(entry, algorithm)


def algorithm_format(fields: Fields, name: str) -> str:
    """The format of a `quant_algo`. Raises `AdvisorError` `model-config` for an unknown one."""
    upper = name.upper()
    if upper in ("INT4_AWQ", "W4A16_AWQ"):
        return integers(fields, 4, group_size(fields, "group_size", default=128))
    for beginning in sorted(_ALGORITHMS, key=len, reverse=True):
        if upper == beginning or upper.startswith(f"{beginning}_"):
            return _ALGORITHMS[beginning]
    raise fields.problem(
        f"unknown `quant_algo` {name!r}", "known are " + ", ".join((*_ALGORITHMS, "INT4_AWQ", "W4A16_AWQ", "MIXED_PRECISION"))
    )

"""The format of the KV cache that a checkpoint brings scales for, which engines take unless told otherwise."""

from collections.abc import Iterator, Mapping
from typing import Any

from advisor.profiles.architectures.fields import Fields

_SCHEMES = ("kv_cache_scheme", "kv_cache_quant_algo", "kv_cache_quant_config")
"""Keys of compressed-tensors and ModelOpt, of ModelOpt, and of Quark."""
_KINDS = {("float", "8"): "fp8", ("int", "8"): "int8", ("float", "4"): "fp4", ("int", "4"): "int4"}


def cache_format_of(configs: tuple[Fields, ...], modelopt: Fields | None) -> str | None:
    """The cache format that a checkpoint is calibrated for, such as `fp8`; `None` where it brings no cache scales.

    `configs` are the whole `config.json` and its text part, `modelopt` is ModelOpt's `hf_quant_config.json`. A scheme that is not
    known is returned in its own words.
    """
    for scheme in _schemes(configs, modelopt):
        return _named(scheme)
    return None


def _schemes(configs: tuple[Fields, ...], modelopt: Fields | None) -> Iterator[Any]:
    quantisations = [fields.inner(name) for fields in configs for name in ("quantization_config", "compression_config")]
    quantisations.append(modelopt.inner("quantization") if modelopt else None)
    for quantisation in quantisations:
        for name in _SCHEMES if quantisation else ():
            assert quantisation is not None
            if quantisation.values.get(name):
                yield quantisation.values[name]


def _named(scheme: Any) -> str:
    """A scheme as a format: a mapping with `num_bits` and `type`, one with a `dtype` inside, or a name."""
    if isinstance(scheme, Mapping):
        kind = _KINDS.get((str(scheme.get("type")), str(scheme.get("num_bits", 0))))
        return kind or _named(next(_dtypes(scheme), "an unknown scheme"))
    name = str(scheme).lower()
    return next((format for format in ("fp8", "int8", "fp4", "int4") if format in name), name)


def _dtypes(scheme: Mapping[str, Any]) -> Iterator[str]:
    for name, value in scheme.items():
        if name == "dtype":
            yield str(value)
        elif isinstance(value, Mapping):
            yield from _dtypes(value)

"""The format of the KV cache that a checkpoint brings scales for, which engines use where no option names another."""

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
        yield from _of_layers(quantisation) if quantisation else ()


def _of_layers(quantisation: Fields) -> Iterator[Any]:
    """The outputs of the layers in Quark's `kv_cache_group`: keys and values, in `layer_quant_config`."""
    export, layers = quantisation.inner("export"), quantisation.inner("layer_quant_config")
    for name in (export.items("kv_cache_group") or []) if export and layers else ():
        assert layers is not None
        entry = layers.values.get(str(name))
        if isinstance(entry, Mapping) and isinstance(entry.get("output_tensors"), Mapping):
            yield entry["output_tensors"]


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

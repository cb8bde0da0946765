"""Finds the quantisation that a config describes and reads it with the reader of its library.

What looks like a quantisation but is not read is an error, or a warning: never silently the checkpoint's dtype.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation import transformers_methods
from advisor.profiles.architectures.quantisation.auto_round import auto_round
from advisor.profiles.architectures.quantisation.compressed_tensors import compressed_tensors
from advisor.profiles.architectures.quantisation.exl import exl
from advisor.profiles.architectures.quantisation.gptq import awq, gptq
from advisor.profiles.architectures.quantisation.mlx import mlx
from advisor.profiles.architectures.quantisation.modelopt import modelopt
from advisor.profiles.architectures.quantisation.module import Quantisation
from advisor.profiles.architectures.quantisation.module_names import words_of
from advisor.profiles.architectures.quantisation.quark import quark
from advisor.profiles.architectures.quantisation.torchao import torchao

KEYS = ("quantization_config", "compression_config", "quantization")
"""Keys that describe a quantisation, in the order in which they are read: transformers, older compressed-tensors, MLX."""
_LOOKS_QUANTISED = re.compile(r"quant|compression")
_EMPTY: tuple[object, ...] = (None, False, 0, "", "none", "None", "bf16", "fp16", [], {})

Reader = Callable[[Fields, Fields, frozenset[str]], Quantisation]
"""Reads a configuration; the text model's config and the names of its routers are given too."""

READERS: dict[str, Reader] = {
    "compressed-tensors": lambda fields, text, routers: compressed_tensors(fields),
    "gptq": lambda fields, text, routers: gptq(fields),
    "awq": lambda fields, text, routers: awq(fields, routers),
    "auto-round": lambda fields, text, routers: auto_round(fields),
    "modelopt": lambda fields, text, routers: modelopt(fields),
    "modelopt_mxfp8": lambda fields, text, routers: modelopt(fields, default="MXFP8"),
    "fp8": lambda fields, text, routers: transformers_methods.fp8(fields, text),
    "fbgemm_fp8": lambda fields, text, routers: transformers_methods.linears(fields, "fp8"),
    "mxfp8": lambda fields, text, routers: transformers_methods.linears(fields, "mxfp8"),
    "mxfp4": lambda fields, text, routers: transformers_methods.mxfp4(fields),
    "nvfp4": lambda fields, text, routers: transformers_methods.linears(fields, "nvfp4"),
    "bitsandbytes": lambda fields, text, routers: transformers_methods.bitsandbytes(fields),
    "quanto": lambda fields, text, routers: transformers_methods.quanto(fields),
    "eetq": lambda fields, text, routers: transformers_methods.linears(fields, "int8"),
    "hqq": lambda fields, text, routers: transformers_methods.hqq(fields),
    "metal": lambda fields, text, routers: transformers_methods.metal(fields),
    "torchao": lambda fields, text, routers: torchao(fields),
    "quark": lambda fields, text, routers: quark(fields),
    "exl2": lambda fields, text, routers: exl(fields, "exl2"),
    "exl3": lambda fields, text, routers: exl(fields, "exl3"),
    "mlx": lambda fields, text, routers: mlx(fields),
}
"""Readers by `quant_method`; MLX writes none."""
# Other names of the same methods: engines' own readers of them, and earlier versions.
_ALIASES = {
    "gptq_marlin": "gptq", "gptq_v2": "gptq", "gptqmodel": "gptq", "gptq_bitblas": "gptq", "auto_gptq": "gptq", "awq_marlin": "awq",
    "auto_awq": "awq", "awq_gemv": "awq", "intel/auto-round": "auto-round", "auto_round": "auto-round", "inc": "auto-round",
    "autoround": "auto-round", "modelopt_fp4": "modelopt", "modelopt_fp8": "modelopt", "modelopt_mixed": "modelopt",
    "compressed_tensors": "compressed-tensors", "sparseml": "compressed-tensors", "bnb": "bitsandbytes", "fbgemm": "fbgemm_fp8",
}  # fmt: skip


def find_configuration(whole: Fields, text: Fields) -> tuple[str, Fields] | None:
    """The key and the configuration of the quantisation in a config; `None` without any.

    Raises `AdvisorError` `model-config` for a mapping under another key that looks like a quantisation.
    """
    for fields in (whole, text):
        for key in KEYS:
            value = fields.inner(key)
            if value is not None and value.values:
                return key, value
    for fields in (whole, text):
        for key, value in fields.values.items():
            if _looks_quantised(key, value) and isinstance(value, Mapping):
                if method_of(Fields(value, fields.where)) in READERS:
                    return key, Fields(value, f"{fields.where}: {key}")
                raise fields.problem(f"`{key}` looks like a quantisation, and is not read", f"known keys: {', '.join(KEYS)}")
    return None


def unread_keys(whole: Fields, text: Fields, read: str | None) -> tuple[str, ...]:
    """Warnings about keys that look like a quantisation and were not read."""
    configurations = [values.get(read) for values in (whole.values, text.values)] if read else []
    return tuple(
        f"`{key}` of config.json looks like a quantisation and was not read"
        for fields in dict.fromkeys((whole, text))
        for key, value in fields.values.items()
        if key != read and _looks_quantised(key, value) and value not in configurations
    )


def _looks_quantised(key: str, value: object) -> bool:
    return _LOOKS_QUANTISED.search(key.lower()) is not None and value not in _EMPTY


# Keys of each library whose modules its reader heeds; of any library, those that describe how it was quantised and not what.
_RULES: dict[str, tuple[str, ...]] = {
    "compressed-tensors": ("config_groups", "ignore", "quantization_config", "sparsity_config", "transform_config"),
    "gptq": ("dynamic", "modules_to_not_convert", "modules_in_block_to_quantize", "inside_layer_modules"),
    "awq": ("modules_to_not_convert",),
    "auto-round": ("extra_config", "block_name_to_quantize", "to_quant_block_names"),
    "modelopt": ("exclude_modules", "ignore", "quantized_layers", "config_groups"),
    "torchao": ("quant_type", "modules_to_not_convert"),
    "hqq": ("quant_config", "dynamic_config", *transformers_methods.SKIP_LISTS),
    "quark": ("global_quant_config", "layer_quant_config", "layer_type_quant_config", "exclude"),
    "exl3": ("tensor_storage", "module_include"),
}
_HISTORY = ("meta", "producer", "export", "algo_config", "calibration", "kv_cache_scheme", "kv_cache_quant_config")
_MODULES = re.compile(r"layers\.|_proj\b|experts|lm_head|self_attn|\bmlp\b|embed_tokens")


def unread_rules(fields: Fields, method: str) -> tuple[str, ...]:
    """Warnings about keys that name modules and are not read by the library's reader. MLX has a key for each module."""
    if method == "mlx":
        return ()
    read = (*_RULES.get(method, transformers_methods.SKIP_LISTS), *_HISTORY)
    return tuple(
        f"`{key}` of the quantisation names modules and was not read"
        for key, value in fields.values.items()
        if key not in read and isinstance(value, Mapping | list) and _MODULES.search(words_of(value))
    )


def read_quantisation(fields: Fields, text: Fields, routers: frozenset[str]) -> Quantisation:
    """The quantisation in a configuration. Raises `AdvisorError` `model-config` for an unknown method, or naming the key at fault."""
    method = method_of(fields)
    if method not in READERS:
        shown = fields.values.get("quant_method")
        raise fields.problem(f"unknown `quant_method` {shown!r}", "known methods: " + ", ".join(READERS))
    quantisation = READERS[method](fields, text, routers)
    warnings = unread_rules(fields, method)
    if method == "gptq" and fields.word("checkpoint_format") in ("bitblas", "qqq"):
        warnings = (*warnings, f"`checkpoint_format` {fields.word('checkpoint_format')} was counted as GPTQ's own")
    return replace(quantisation, warnings=(*quantisation.warnings, *warnings))


def method_of(fields: Fields) -> str | None:
    """The library whose configuration this is: by `quant_method`, else by the keys that only it has; `None` if unknown."""
    method, values = fields.word("quant_method"), fields.values
    if "quant_algo" in values and method not in ("compressed-tensors", "awq", "gptq"):
        return "modelopt"
    if method is not None:
        name = method.lower()
        return _ALIASES.get(name, name)
    signs = {
        "config_groups": "compressed-tensors", "global_quant_config": "quark", "quant_type": "torchao", "weight_block_size": "fp8",
        "load_in_4bit": "bitsandbytes", "load_in_8bit": "bitsandbytes", "nbits": "hqq", "desc_act": "gptq", "w_bit": "awq",
        "q_group_size": "awq", "zero_point": "awq", "autoround_version": "auto-round",
    }  # fmt: skip
    sign = next((sign for sign in signs if sign in values), None)
    if sign is not None:
        return signs[sign]
    return "mlx" if "bits" in values and "group_size" in values else None

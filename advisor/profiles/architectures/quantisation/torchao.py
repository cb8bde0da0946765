"""Reads the configuration of torchao: a class of configuration with its fields, for all linear layers or for each by its path.

`quant_type` is `{"default": {"_type": CLASS, "_data": {...}}}` as transformers writes it, or a word with `quant_type_kwargs` as it did
before. `FqnToConfig` maps paths, expressions after `re:` matched as a whole, and `_default`.
"""

import re
from collections.abc import Mapping

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation.integers import SYMMETRIC, group_size, integers
from advisor.profiles.architectures.quantisation.module import OUTSIDE_LINEARS, Module, Quantisation
from advisor.profiles.architectures.quantisation.patterns import by_component, expression

# Classes of torchao/quantization/quant_api.py whose weights have one format, and the words that transformers used for them.
_FORMATS = {
    "Int8WeightOnlyConfig": "int8", "Int8DynamicActivationInt8WeightConfig": "int8-w8a8",
    "Int8StaticActivationInt8WeightConfig": "int8-w8a8",
    "Float8WeightOnlyConfig": "fp8", "Float8DynamicActivationFloat8WeightConfig": "fp8", "Float8StaticActivationFloat8WeightConfig": "fp8",
    "NVFP4InferenceConfig": "nvfp4", "NVFP4DynamicActivationNVFP4WeightConfig": "nvfp4", "NVFP4WeightOnlyConfig": "nvfp4",
}  # fmt: skip
# Classes with integers in groups, with their default group: a scale and a zero point of 16 bits each (`scale_and_zero`).
_PACKED = {"Int4WeightOnlyConfig": 128, "Float8DynamicActivationInt4WeightConfig": 128, "GemliteUIntXWeightOnlyConfig": 128}
# Classes that store a byte for each weight, however few bits it has (IntxUnpackedToInt8Tensor).
_UNPACKED = {"Int8DynamicActivationInt4WeightConfig": 32, "Int8DynamicActivationIntxWeightConfig": 32, "IntxWeightOnlyConfig": None}
_BY_PATH = {"FqnToConfig": "fqn_to_config", "ModuleFqnToConfig": "module_fqn_to_config", "AOPerModuleConfig": "module_fqn_to_config"}


def torchao(fields: Fields) -> Quantisation:
    """The quantisation of torchao. Raises `AdvisorError` `model-config` naming the key at fault."""
    kind, data = _configuration(fields)
    skip_list = fields.items("modules_to_not_convert")
    skipped = by_component(fields, skip_list or [])
    embeddings = fields.flag("include_input_output_embeddings", default=False)
    by_path = _by_path(data, kind) if kind in _BY_PATH else None
    default = None if by_path else _format(data, kind)

    def resolve(module: Module) -> str | None:
        outside = module.kind == "router" or (module.kind in OUTSIDE_LINEARS and not embeddings)
        if by_path is not None:
            listed, format = by_path(module)
            return format if listed or (not outside and not skipped(module)) else None
        head_in_list = module.kind == "head" and bool(skip_list)
        return default if (not outside or head_in_list) and not skipped(module) else None

    return Quantisation(resolve=resolve)


def _configuration(fields: Fields) -> tuple[str, Fields]:
    value = fields.values.get("quant_type")
    if isinstance(value, str):
        kind = "".join(part.capitalize() for part in value.split("_")) + "Config"
        return kind, Fields((fields.inner("quant_type_kwargs") or Fields({}, "")).values, fields.where)
    described = fields.inner("quant_type")
    inner = (described.inner("default") or described) if described else None
    kind_name = inner.word("_type") if inner else None
    if inner is None or kind_name is None:
        raise fields.problem("`quant_type` is missing")
    return kind_name, inner.inner("_data") or Fields({}, inner.where)


def _format(data: Fields, kind: str) -> str:
    if kind in _FORMATS:
        return _FORMATS[kind]
    if kind in _PACKED:
        return integers(data, _bits(data, default=4), group_size(data, "group_size", default=_PACKED[kind]))
    if kind in _UNPACKED:
        group = _granularity(data) or group_size(data, "group_size", default=_UNPACKED[kind])
        return f"int8-{f'g{group}' if group else 'channel'}-{SYMMETRIC}"
    if kind in ("MXFPInferenceConfig", "MXDynamicActivationMXWeightConfig"):
        return "mxfp4" if "float4" in str(data.values.get("weight_dtype")) else "mxfp8"
    if kind == "UIntXWeightOnlyConfig":
        return integers(data, _bits(data, default=4), group_size(data, "group_size", default=64))
    names = ", ".join((*_FORMATS, *_PACKED, *_UNPACKED, "UIntXWeightOnlyConfig", "MXDynamicActivationMXWeightConfig", *_BY_PATH))
    raise data.problem(f"unknown `quant_type` {kind!r}", "known are " + names)


def _bits(data: Fields, *, default: int) -> int:
    if "bit_width" in data.values:
        return data.count("bit_width")
    digits = re.search(r"int(\d)", str(data.values.get("dtype") or data.values.get("weight_dtype") or ""))
    return int(digits[1]) if digits else default


def _granularity(data: Fields) -> int | None:
    """The group in `weight_granularity` or `granularity`, `{"_type": "PerGroup", "_data": {"group_size": N}}`."""
    for name in ("weight_granularity", "granularity"):
        value = data.values.get(name)
        inner = value.get("_data") if isinstance(value, Mapping) else None
        if isinstance(inner, Mapping) and "group_size" in inner:
            return group_size(Fields(inner, data.where), "group_size")
    return None


class _ByPath:
    """Formats by path; a module without any has the default, which is `None` where there is none."""

    def __init__(self, entries: Fields) -> None:
        self._paths: dict[str, str | None] = {}
        self._expressions: list[tuple[re.Pattern[str], str | None]] = []
        for text in entries.values:
            entry = entries.inner(text)
            format = _format(entry.inner("_data") or Fields({}, entry.where), str(entry.word("_type"))) if entry else None
            if text.startswith("re:"):
                self._expressions.append((expression(entries, text[3:]), format))
            else:
                self._paths[text] = format

    def __call__(self, module: Module) -> tuple[bool, str | None]:
        """Whether an entry names the module, and its format."""
        for path in (module.path, f"{module.path}.weight", *module.aliases):
            if path in self._paths:
                return True, self._paths[path]
            for pattern, format in self._expressions:
                if pattern.fullmatch(path):
                    return True, format
        return False, self._paths.get("_default")


def _by_path(data: Fields, kind: str) -> _ByPath:
    entries = data.inner(_BY_PATH[kind]) or data.inner("fqn_to_config") or data.inner("module_fqn_to_config")
    if entries is None:
        raise data.problem(f"`{_BY_PATH[kind]}` is missing")
    # A mapping is itself written as `{"_type": "dict", "_data": {...}}` by some versions.
    return _ByPath(entries.inner("_data") or entries)

"""Reads the configuration of compressed-tensors (llm-compressor): groups of targets, each with its own format, and `ignore`.

Semantics of compressed_tensors/utils/match.py: an entry is a module's full path, `re:` with an expression matched from the start of
the path, or the name of a class or base class. `ignore` comes first; then exact paths, expressions and classes, in this order and
sorted within each, and the group of the first target that matches holds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation.integers import PACKED_ZEROS, SYMMETRIC, group_size, integers
from advisor.profiles.architectures.quantisation.module import Module, Quantisation
from advisor.profiles.architectures.quantisation.patterns import expression

_UNPACKED = frozenset({"int-quantized", "naive-quantized"})
"""Formats that store a byte for each weight, however few bits it has."""

# Preset schemes (quantization/quant_scheme.py): bits, type and group of weights, and bits of activations.
_PRESETS: dict[str, tuple[int, str, int | None, int | None]] = {
    "W8A16": (8, "int", None, None), "W4A16": (4, "int", 128, None), "W4A16_ASYM": (4, "int", 128, None), "W8A8": (8, "int", None, 8),
    "INT8": (8, "int", None, 8), "W4A8": (4, "int", 128, 8), "FP8": (8, "float", None, 8), "FP8_DYNAMIC": (8, "float", None, 8),
    "FP8_BLOCK": (8, "float", None, 8), "NVFP4": (4, "float", 16, 4), "NVFP4A16": (4, "float", 16, None),
    "MXFP4": (4, "float", 32, 4), "MXFP4A16": (4, "float", 32, None),
}  # fmt: skip


def compressed_tensors(fields: Fields) -> Quantisation:
    """The quantisation that `config_groups` and `ignore` describe. Raises `AdvisorError` `model-config` naming the key at fault."""
    warnings = _sparsity(fields)
    # Before version 0.6 the groups were a part of `compression_config`, beside that of sparse weights.
    fields = fields.inner("quantization_config") or fields
    groups = fields.inner("config_groups")
    if warnings and groups is None:
        return Quantisation(resolve=lambda module: None, warnings=warnings)
    if groups is None or not groups.values:
        raise fields.problem("`config_groups` is missing")
    formats: dict[str, str | None] = {}
    for name in groups.values:
        group = _group(groups, name)
        for target in group.items("targets") or ["Linear"]:
            formats[str(target)] = _format(group, group.word("format") or fields.word("format") or "")
    ignored = [_Entry.read(fields, str(entry)) for entry in fields.items("ignore") or []]
    targets = sorted((_Entry.read(fields, target) for target in formats), key=lambda entry: (entry.pattern is not None, entry.text))

    def resolve(module: Module) -> str | None:
        if any(entry.names(module) or entry.is_class_of(module) for entry in ignored):
            return None
        named = (entry for entry in targets if entry.names(module))
        entry = next(named, None) or next((entry for entry in targets if entry.is_class_of(module)), None)
        return formats[entry.text] if entry else None

    return Quantisation(resolve=resolve, warnings=warnings)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One target or entry of `ignore`."""

    text: str
    pattern: re.Pattern[str] | None

    @classmethod
    def read(cls, fields: Fields, text: str) -> "_Entry":
        return cls(text, expression(fields, text[3:]) if text.startswith("re:") else None)

    def names(self, module: Module) -> bool:
        """Whether the entry is the module's path, or an expression for it."""
        if self.pattern is None:
            return self.text == module.path or self.text in module.aliases
        # Routers and embeddings are no linear layers: an expression for a whole layer does not mean them.
        return self.pattern.match(module.path) is not None and ("Linear" in module.classes or self._spells(module))

    def is_class_of(self, module: Module) -> bool:
        """Whether the entry is the name of the module's class; families name the class of their experts differently."""
        return self.text in module.classes or (module.kind == "expert" and self.text.endswith("Experts"))

    def _spells(self, module: Module) -> bool:
        """Whether the expression spells out the last component of a module's path."""
        return module.path.rpartition(".")[2] in self.text.replace("\\", "")


def _group(groups: Fields, name: str) -> Fields:
    preset = groups.values[name]
    if isinstance(preset, list):
        # A preset such as `"W4A16": ["Linear"]`: the key names the scheme, the list its targets.
        return Fields({**_preset(groups, name), "targets": preset}, f"{groups.where}: {name}")
    group = groups.inner(name)
    if group is None:
        raise groups.problem(f"`{name}` is empty")
    return group


def _preset(groups: Fields, name: str) -> Mapping[str, object]:
    if name.upper() not in _PRESETS:
        raise groups.problem(f"unknown scheme `{name}`", "known schemes: " + ", ".join(_PRESETS))
    bits, kind, size, activations = _PRESETS[name.upper()]
    weights = {"num_bits": bits, "type": kind, "group_size": size, "symmetric": "ASYM" not in name.upper()}
    return {"weights": weights, "input_activations": {"num_bits": activations, "type": kind} if activations else None}


def _format(group: Fields, layout: str) -> str | None:
    weights = group.inner("weights")
    if weights is None:
        # A group without weights quantises activations or the cache only.
        return None
    bits, size = weights.count("num_bits", default=8), group_size(weights)
    if weights.word("type") == "float":
        return _floats(weights, bits, size, layout)
    activations = group.inner("input_activations")
    if activations is not None and bits == 8:
        return "int8-w8a8"
    if layout in _UNPACKED:
        return f"int8-{f'g{size}' if size else 'channel'}-sym"
    scales = SYMMETRIC if weights.flag("symmetric", default=True) else PACKED_ZEROS
    name = integers(weights, bits, size, scales)
    # Eight-bit activations have kernels for four-bit weights only.
    return name.replace("int4", "w4a8", 1) if activations is not None and activations.count("num_bits", default=8) == 8 else name


def _floats(weights: Fields, bits: int, size: int | None, layout: str) -> str:
    if bits == 8:
        return "mxfp8" if layout.startswith("mxfp8") or (size == 32 and weights.word("strategy") == "group") else "fp8"
    if bits == 6:
        return "mxfp6"
    if bits != 4:
        raise weights.problem(f"{bits}-bit floats are not supported", "known are 4, 6 and 8 bits")
    return "mxfp4" if layout.startswith("mxfp4") or size == 32 else "nvfp4"


def _sparsity(fields: Fields) -> tuple[str, ...]:
    sparsity = fields.inner("sparsity_config")
    layout = sparsity.word("format") if sparsity else None
    if layout in (None, "dense"):
        return ()
    return (f"weights are stored sparse (`sparsity_config.format` is {layout}), but counted as dense",)

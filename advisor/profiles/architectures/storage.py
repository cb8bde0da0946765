"""How a checkpoint stores its weights: the quantised format, and the matrices in other formats.

Reads `quantization_config` (fp8, mxfp4, compressed-tensors, GPTQ, AWQ, bitsandbytes) and ModelOpt's `hf_quant_config.json`.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import Layer, Matrix

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
# Values of ModelOpt's `quant_algo`.
_MODELOPT = {"FP8": "fp8", "NVFP4": "nvfp4", "INT4_AWQ": "int4-g128", "W4A16_AWQ": "int4-g128", "W4A8_AWQ": "w4a8", "MXFP4": "mxfp4"}
_NEVER_QUANTISED = frozenset({"router", "embedding", "head"})
# Modules of a layer that hold matrices of a kind, as checkpoints of the families name them.
_MODULES = {
    "attention": ("self_attn", "attn", "mixer", "attention"),
    "mixer": ("linear_attn", "mixer", "self_attn", "attention"),
    "mlp": ("mlp", "ffn", "feed_forward", "mixer"),
    "expert": ("mlp.experts.0", "ffn.experts.0", "block_sparse_moe.experts.0", "feed_forward.experts", "mixer.experts.0"),
    "shared-expert": (
        "mlp.shared_experts",
        "mlp.shared_expert",
        "ffn.shared_experts",
        "feed_forward.shared_expert",
        "mixer.shared_experts",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The format of the matrices whose module matches `pattern`, in one layer or in all."""

    layer: int | None
    pattern: re.Pattern[str]
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The formats of a checkpoint: `weight_format` of quantised matrices, `plain` of unquantised ones."""

    weight_format: str
    plain: str
    reason: str
    """Where the format is from, or that it is assumed."""
    experts_only: bool = False
    """Only experts are quantised."""
    rest: str | None = None
    """Format of quantised matrices other than experts, where it differs."""
    rules: tuple[Rule, ...] = ()
    """Exceptions by module; the first that matches holds."""

    @property
    def quantised(self) -> bool:
        """Whether any matrix is quantised."""
        return self.weight_format != self.plain

    def matrix(self, matrix: Matrix, rules: Iterable[Rule] = ()) -> Matrix:
        """The matrix with `stored` set where its format differs from `weight_format`."""
        stored = self._format(matrix, rules)
        return matrix if stored == self.weight_format else replace(matrix, stored=stored)

    def layers(self, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        """The layers with the formats of their matrices; equal ones are one object."""
        if not self.quantised:
            return layers
        everywhere = [rule for rule in self.rules if rule.layer is None]
        named: dict[int, list[Rule]] = {}
        for rule in self.rules:
            if rule.layer is not None:
                named.setdefault(rule.layer, []).append(rule)
        by_key: dict[tuple[int, tuple[tuple[str, str], ...]], Layer] = {}
        for index, layer in enumerate(layers):
            key = self._key(layer, named.get(index, []))
            if key not in by_key:
                rules = (*named.get(index, []), *everywhere)
                by_key[key] = replace(layer, matrices=tuple(self.matrix(matrix, rules) for matrix in layer.matrices))
        unique: dict[Layer, Layer] = {}
        return tuple(
            unique.setdefault(by_key[key], by_key[key])
            for key in (self._key(layer, named.get(index, [])) for index, layer in enumerate(layers))
        )

    @staticmethod
    def _key(layer: Layer, rules: list[Rule]) -> tuple[int, tuple[tuple[str, str], ...]]:
        return id(layer), tuple(sorted((rule.pattern.pattern, rule.format) for rule in rules))

    def _format(self, matrix: Matrix, rules: Iterable[Rule]) -> str:
        if not self.quantised or matrix.kind in _NEVER_QUANTISED:
            return self.plain
        names = [f"{module}.{matrix.name}" for module in _MODULES[matrix.kind]]
        for rule in rules:
            if any(rule.pattern.match(name) for name in names):
                return rule.format
        if matrix.kind == "expert":
            return self.weight_format
        return self.plain if self.experts_only else self.rest or self.weight_format


def read_storage(whole: Fields, text: Fields, *, id: str, modelopt: Fields | None = None) -> Storage:
    """The storage of a checkpoint: from `quantization_config`, else from ModelOpt's file, else from the ending of the model's id.

    Raises `AdvisorError` (`model-config`) for an unknown method.
    """
    plain, reason = _plain(text)
    quantization = whole.inner("quantization_config") or text.inner("quantization_config")
    if quantization is not None:
        return _quantised(quantization, text, plain)
    if modelopt is not None:
        return _modelopt(modelopt.inner("quantization") or modelopt, plain, "hf_quant_config.json")
    return _by_id(id, plain) or Storage(weight_format=plain, plain=plain, reason=reason)


def _plain(text: Fields) -> tuple[str, str]:
    for name in ("dtype", "torch_dtype"):
        dtype = text.word(name)
        if dtype is not None:
            if dtype not in DTYPES:
                raise text.problem(f"`{name}` is {dtype!r}", "known are " + ", ".join(DTYPES))
            return DTYPES[dtype], f"`{name}` of config.json"
    return "bf16", "assumed: config.json names no `dtype`"


def _by_id(id: str, plain: str) -> Storage | None:
    """The format that the id of a ModelOpt checkpoint ends in, for a `config.json` without its `hf_quant_config.json`."""
    for ending, name in (("-nvfp4", "nvfp4"), ("-fp8", "fp8")):
        if id.lower().endswith(ending):
            return Storage(
                weight_format=name,
                plain=plain,
                reason=f"assumed from the id's ending `{id[-len(ending) :]}`: config.json names no quantisation",
            )
    return None


def _quantised(fields: Fields, text: Fields, plain: str) -> Storage:
    method, reason = fields.word("quant_method"), "`quantization_config` of config.json"
    if fields.word("quant_algo") is not None or method == "modelopt":
        return _modelopt(fields, plain, reason)
    excluded = _excluded_rules(fields, plain)
    if method in ("fp8", "fbgemm_fp8"):
        fp4 = (text.word("expert_dtype") or fields.word("expert_dtype")) == "fp4"
        return Storage(weight_format="mxfp4" if fp4 else "fp8", rest="fp8", plain=plain, reason=reason, rules=excluded)
    if method == "mxfp4":
        return Storage(weight_format="mxfp4", plain=plain, reason=reason, experts_only=True, rules=excluded)
    if method == "compressed-tensors":
        return Storage(weight_format=_compressed(fields), plain=plain, reason=reason, rules=excluded)
    if method in ("gptq", "awq"):
        bits = fields.count("bits", "w_bit")
        return Storage(weight_format=_integers(fields, bits, _group(fields)), plain=plain, reason=reason, rules=excluded)
    if method == "bitsandbytes":
        # Four-bit blocks of 64 share one fp32 scale, the bytes of int4 in groups of 64.
        name = "int8" if fields.flag("load_in_8bit", default=False) else "int4-g64"
        return Storage(weight_format=name, plain=plain, reason=reason, rules=excluded)
    raise fields.problem(
        f"unknown `quant_method` {method!r}", "known methods: fp8, mxfp4, modelopt, compressed-tensors, gptq, awq, bitsandbytes"
    )


def _modelopt(fields: Fields, plain: str, reason: str) -> Storage:
    algorithm = fields.word("quant_algo") or "NVFP4"
    if algorithm != "MIXED_PRECISION":
        name = _algorithm(fields, algorithm)
        return Storage(weight_format=name, plain=plain, reason=reason, rules=_excluded_rules(fields, plain))
    quantised = fields.inner("quantized_layers")
    if quantised is None or not quantised.values:
        raise fields.problem("`quantized_layers` is missing, though `quant_algo` is MIXED_PRECISION")
    rules = tuple(_rule(fields, str(module), _algorithm(fields, _named(quantised, module))) for module in quantised.values)
    usual = Counter(rule.format for rule in rules).most_common(1)[0][0]
    # Layers that ModelOpt did not quantise have the format of the checkpoint before it: fp8 where `quant_method` is fp8.
    rest = "fp8" if fields.word("quant_method") == "fp8" else plain
    return Storage(weight_format=usual, rest=rest, plain=plain, reason=reason, rules=rules)


def _named(quantised: Fields, module: str) -> str:
    entry = quantised.inner(module)
    algorithm = entry.word("quant_algo") if entry else None
    if algorithm is None:
        raise quantised.problem(f"`{module}` has no `quant_algo`")
    return algorithm


def _algorithm(fields: Fields, name: str) -> str:
    for prefix, format in _MODELOPT.items():
        if name == prefix or name.startswith(f"{prefix}_"):
            return format
    raise fields.problem(f"unknown `quant_algo` {name!r}", "known are " + ", ".join(_MODELOPT) + ", MIXED_PRECISION")


def _compressed(fields: Fields) -> str:
    groups = fields.inner("config_groups")
    if groups is None or not groups.values:
        raise fields.problem("`config_groups` is missing")
    group = groups.inner(next(iter(groups.values)))
    weights = group.inner("weights") if group else None
    if group is None or weights is None:
        raise fields.problem("`config_groups` holds no `weights`")
    bits, size = weights.count("num_bits"), _group(weights)
    if weights.word("type") == "float":
        if bits == 8:
            return "fp8"
        return "mxfp4" if "mxfp4" in (fields.word("format") or "") or size == 32 else "nvfp4"
    activations = group.inner("input_activations")
    if activations is None:
        return _integers(fields, bits, size)
    return "int8-w8a8" if bits == 8 else "w4a8"


def _integers(fields: Fields, bits: int, group: int | None) -> str:
    if bits not in (4, 8):
        raise fields.problem(f"{bits}-bit integers are not supported", "known are 4 and 8 bits")
    return "int8" if bits == 8 else f"int4-g{group or 128}"


def _group(fields: Fields) -> int | None:
    for name in ("group_size", "q_group_size"):
        value = fields.values.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _excluded_rules(fields: Fields, plain: str) -> tuple[Rule, ...]:
    names: list[Any] = []
    for name in ("modules_to_not_convert", "ignore", "exclude_modules", "llm_int8_skip_modules", "ignored_layers"):
        names += fields.items(name) or []
    return tuple(_rule(fields, str(module), plain) for module in names)


def _rule(fields: Fields, module: str, format: str) -> Rule:
    """The rule of one entry of an ignore list: a module's path, with `*` for anything, or a regular expression after `re:`."""
    if module.startswith("re:"):
        try:
            return Rule(layer=None, pattern=re.compile(module[3:]), format=format)
        except re.error as error:
            raise fields.problem(f"`{module}` is no regular expression ({error})") from error
    match = re.search(r"(?:^|\.)layers\.(\d+)\.", module)
    path = module[match.end() :] if match else re.sub(r"^.*?layers\.\*\.", "", module)
    expression = re.escape(path.strip(".")).replace(r"\*", ".*")
    return Rule(layer=int(match[1]) if match else None, pattern=re.compile(rf"(?:.*\.)?{expression}(?:\..*)?$"), format=format)

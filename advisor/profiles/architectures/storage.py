"""How a checkpoint stores its weights: the format of each matrix, from the quantisation that its config describes."""

import re
from collections import Counter
from dataclasses import dataclass, replace

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import Layer, Matrix
from advisor.profiles.architectures.parts import Blocks
from advisor.profiles.architectures.quantisation.methods import find_configuration, read_quantisation, unread_keys
from advisor.profiles.architectures.quantisation.modelopt import modelopt
from advisor.profiles.architectures.quantisation.module import Quantisation
from advisor.profiles.architectures.quantisation.module_names import ModuleNames, module_names, router_names, words_of
from advisor.profiles.architectures.quantisation.towers import stored_towers
from advisor.profiles.architectures.towers import Tower

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_EXPERTS_NAMED = re.compile(r"experts\.[\d(\[]")
_QUANTISED_IDS = re.compile(
    r"(?:^|[-_./])(awq|gptq|int4|int8|w4a16|w8a8|w8a16|w4a8|4bit|8bit|fp8|nvfp4|mxfp4|bnb|hqq|exl2|exl3|mlx|quantized)(?:$|[-_.])", re.I
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The matrices of a model with their formats."""

    weight_format: str
    """Format of most quantised parameters, or of all matrices of an unquantised checkpoint."""
    reason: str
    """Where the format is from, or that it is assumed."""
    layers: tuple[Layer, ...]
    embedding: Matrix
    head: Matrix | None
    lookups: tuple[Matrix, ...]
    towers: tuple[Tower, ...]
    warnings: tuple[str, ...]


def read_storage(
    blocks: Blocks,
    embedding: Matrix,
    head: Matrix | None,
    *,
    whole: Fields,
    text: Fields,
    id: str,
    other: Fields | None = None,
    towers: tuple[Tower, ...] = (),
) -> Storage:
    """The storage of a checkpoint: from its config, else from another file that describes a quantisation, else from the model's id.

    `whole` is the config, `text` that of its language model, `other` the content of `hf_quant_config.json` or of a like file, `towers`
    what stands beside the language model.
    Raises `AdvisorError` (`model-config`) for what is not known.
    """
    plain, reason = _plain(text)
    quantisation, words, source, warnings = _quantisation(blocks, whole=whole, text=text, id=id, other=other)
    towers = stored_towers(towers, quantisation, _rules(whole, text, other), plain)
    if quantisation is None:
        return Storage(
            weight_format=plain,
            reason=reason,
            layers=blocks.layers,
            embedding=embedding,
            head=head,
            lookups=blocks.lookups,
            towers=towers,
            warnings=warnings,
        )
    names = module_names(str(text.word("model_type")), multimodal=whole is not text, words=words)
    named = _EXPERTS_NAMED.search(words) is not None
    formats = _Formats(quantisation, names, quantisation.unlisted or plain, plain, experts_named=named)
    layers = formats.layers(blocks.layers, blocks.layers_per_block)
    outside = [replace(matrix, stored=formats.outside(matrix)) for matrix in (embedding, head, *blocks.lookups) if matrix]
    usual = _usual(layers, outside, plain)
    if usual == plain:
        warnings = (*warnings, f"{source} quantises no matrix of this model")
    return Storage(
        weight_format=usual,
        reason=source,
        layers=_without_usual(layers, usual),
        embedding=_unless_usual(outside[0], usual),
        head=_unless_usual(outside[1], usual) if head else None,
        lookups=tuple(_unless_usual(matrix, usual) for matrix in outside[len(outside) - len(blocks.lookups) :]),
        towers=towers,
        warnings=(*warnings, *quantisation.warnings, *formats.mixed_experts()),
    )


def _plain(text: Fields) -> tuple[str, str]:
    for name in ("dtype", "torch_dtype"):
        dtype = text.word(name)
        if dtype is not None:
            if dtype not in DTYPES:
                raise text.problem(f"`{name}` is {dtype!r}", "known are " + ", ".join(DTYPES))
            return DTYPES[dtype], f"`{name}` of config.json"
    return "bf16", "assumed: config.json names no `dtype`"


def _rules(whole: Fields, text: Fields, other: Fields | None) -> object:
    """The configuration of a quantisation as it stands, with what it says of other models than the language model."""
    configuration = find_configuration(whole, text)
    return configuration[1].values if configuration else other.values if other else None


def _quantisation(
    blocks: Blocks, *, whole: Fields, text: Fields, id: str, other: Fields | None
) -> tuple[Quantisation | None, str, str, tuple[str, ...]]:
    """The quantisation, the text of its rules, where it is from, and warnings."""
    configuration, routers = find_configuration(whole, text), router_names(blocks.layers)
    warnings = unread_keys(whole, text, configuration[0] if configuration else None)
    if configuration is not None:
        key, fields = configuration
        return read_quantisation(fields, text, routers), words_of(fields.values), f"`{key}` of config.json", warnings
    if other is not None:
        fields = other.inner("quantization") or other
        return read_quantisation(fields, text, routers), words_of(fields.values), other.where, warnings
    assumed = _by_id(id)
    if assumed is not None:
        return *assumed, warnings
    quantised = _QUANTISED_IDS.search(id.rpartition("/")[2])
    if quantised is not None:
        warnings = (*warnings, f"the id names a quantisation (`{quantised[1]}`), but config.json describes none")
    return None, "", "", warnings


def _by_id(id: str) -> tuple[Quantisation, str, str] | None:
    """The quantisation that the id of a ModelOpt checkpoint ends in, for a `config.json` without its `hf_quant_config.json`."""
    for ending, algorithm in (("-nvfp4", "NVFP4"), ("-fp8", "FP8")):
        if id.lower().endswith(ending):
            source = f"assumed from the id's ending `{id[-len(ending) :]}`: config.json names no quantisation"
            return modelopt(Fields({"quant_algo": algorithm}, id)), "", source
    return None


class _Formats:
    """The formats of a model's matrices. Resolves the first expert of a layer for all, unless rules name experts or the last differs."""

    def __init__(self, quantisation: Quantisation, names: ModuleNames, unlisted: str, plain: str, *, experts_named: bool) -> None:
        self._experts_named = experts_named
        self._quantisation, self._names, self._unlisted, self._plain = quantisation, names, unlisted, plain
        self._mixed_layers: list[int] = []

    def outside(self, matrix: Matrix) -> str:
        """The format of the embedding or the head."""
        return self._quantisation.resolve(self._names.outside(matrix)) or self._plain

    def layers(self, layers: tuple[Layer, ...], layers_per_block: int) -> tuple[Layer, ...]:
        """The layers with `stored` set for every matrix; equal ones are one object."""
        by_formats: dict[tuple[int, tuple[str, ...]], Layer] = {}
        stored = []
        for index, layer in enumerate(layers):
            formats = tuple(self._of_matrix(index // layers_per_block, matrix) for matrix in layer.matrices)
            key = id(layer), formats
            if key not in by_formats:
                matrices = tuple(replace(matrix, stored=format) for matrix, format in zip(layer.matrices, formats, strict=True))
                by_formats[key] = replace(layer, matrices=matrices)
            stored.append(by_formats[key])
        return tuple(stored)

    def _of_matrix(self, index: int, matrix: Matrix) -> str:
        first = self._of_expert(index, matrix, 0)
        if matrix.kind != "expert" or (not self._experts_named and first == self._of_expert(index, matrix, matrix.copies - 1)):
            return first
        formats = Counter(self._of_expert(index, matrix, expert) for expert in range(matrix.copies))
        if len(formats) > 1:
            self._mixed_layers.append(index)
        return formats.most_common(1)[0][0]

    def _of_expert(self, index: int, matrix: Matrix, expert: int) -> str:
        format = self._quantisation.resolve(self._names.of_layer(index, matrix, expert))
        return format or (self._plain if matrix.kind == "router" else self._unlisted)

    def mixed_experts(self) -> tuple[str, ...]:
        """The warning about layers whose experts differ in format."""
        if not self._mixed_layers:
            return ()
        layers = len(set(self._mixed_layers))
        return (f"experts of {layers} {'layer' if layers == 1 else 'layers'} differ in format; counted in that of most",)


def _usual(layers: tuple[Layer, ...], outside: list[Matrix], plain: str) -> str:
    """The format of most quantised parameters; `plain` where none is quantised."""
    parameters: Counter[str] = Counter()
    counts = Counter(id(layer) for layer in layers)
    for layer in {id(layer): layer for layer in layers}.values():
        for matrix in layer.matrices:
            parameters[str(matrix.stored)] += counts[id(layer)] * matrix.parameters
    for matrix in outside:
        parameters[str(matrix.stored)] += matrix.parameters
    quantised = [(count, format) for format, count in parameters.items() if format not in DTYPES.values()]
    return max(quantised)[1] if quantised else plain


def _without_usual(layers: tuple[Layer, ...], usual: str) -> tuple[Layer, ...]:
    """The layers with `stored` only where it differs from the usual format; equal ones are one object."""
    unique: dict[Layer, Layer] = {}
    replaced: dict[int, Layer] = {}
    for layer in {id(layer): layer for layer in layers}.values():
        changed = replace(layer, matrices=tuple(_unless_usual(matrix, usual) for matrix in layer.matrices))
        replaced[id(layer)] = unique.setdefault(changed, changed)
    return tuple(replaced[id(layer)] for layer in layers)


def _unless_usual(matrix: Matrix, usual: str) -> Matrix:
    return replace(matrix, stored=None) if matrix.stored == usual else matrix

"""Paths and classes of a model's modules: `module_names.yaml`, with the names that a quantisation's rules use."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from advisor.profiles.architectures.layers import Layer, Matrix
from advisor.profiles.architectures.quantisation.module import Module

_EXPERT = "{expert}"
# Classes that rules name for matrices of a kind: the module's own, its base classes, and vLLM's for the experts of a layer.
_CLASSES = {
    "embedding": ("Embedding", "VocabParallelEmbedding"),
    "router": ("TopKRouter",),
    "expert": ("Linear", "FusedMoE", "RoutedExperts"),
}

_OTHER_MODELS = re.compile(r"vis(?:ion|ual)|audio|mtp|projector")


@dataclass(frozen=True, slots=True)
class ModuleNames:
    """The names of one model's modules, in the words of the rules of its quantisation."""

    layers: str
    """Path of the list of layers, such as `model.layers`."""
    embedding: str
    head: str
    parents: Mapping[str, str]
    """Module that holds matrices of a kind, within its layer."""
    leaves: Mapping[str, Mapping[str, str]]
    paths: Mapping[str, str]
    fused: Mapping[str, str]
    """Name of the fused module of a matrix, by the matrix's own."""

    def of_layer(self, index: int, matrix: Matrix, expert: int = 0) -> Module:
        """The module of a matrix of layer `index`; of routed experts, that of one of them."""
        template = self.parents[matrix.kind]
        parent = template.replace(_EXPERT, str(expert))
        leaf = self.leaves.get(template, {}).get(matrix.name, matrix.name)
        relative = self.paths.get(matrix.name) or f"{parent}.{leaf}"
        layer = f"{self.layers}.{index}"
        beside = matrix.name in _table()["beside"]
        relative = matrix.name if beside else relative
        return Module(
            path=f"{self.layers.rpartition('.')[0]}.{matrix.name}" if beside else f"{layer}.{relative}",
            relative=relative,
            classes=_CLASSES.get(matrix.kind, ("Linear",)),
            kind=matrix.kind,
            aliases=tuple(f"{layer}.{alias}" for alias in self._aliases(matrix, template, parent)),
            n=matrix.n,
            k=matrix.k,
        )

    def _aliases(self, matrix: Matrix, template: str, parent: str) -> Iterator[str]:
        """Paths, within the layer, of fused modules that hold the matrix."""
        fused = self.fused.get(matrix.name)
        if fused is not None:
            yield f"{parent}.{fused}"
        if matrix.kind == "expert":
            experts = template.removesuffix(f".{_EXPERT}")
            yield experts
            yield f"{experts}.{matrix.name}"
            if fused is not None:
                yield f"{experts}.{fused}"

    def outside(self, matrix: Matrix) -> Module:
        """The module of the embedding, of the head, or of another embedding beside it."""
        named = {"lm_head": self.head, "embed_tokens": self.embedding}
        path = named.get(matrix.name) or f"{self.embedding.rpartition('.')[0]}.{matrix.name}"
        return Module(path=path, relative=path, classes=_CLASSES.get(matrix.kind, ("Linear",)), kind=matrix.kind, n=matrix.n, k=matrix.k)


def module_names(family: str, *, multimodal: bool, words: str) -> ModuleNames:
    """The names of a family's modules (`model_type`); `words` is the text of the rules, whose names are preferred.

    `multimodal`: the language model is part of a larger one.
    """
    table = _table()
    own = table["families"].get(family, {})
    layers = own.get("layers") or table["multimodal_layers" if multimodal else "layers"]
    if own.get("layers") and multimodal:
        layers = [*layers, *table["multimodal_layers"]]
    chosen = _mentioned(layers, words, r"(?:^|[\^:])", r"(?:\.|\*|$)")
    embedding = own.get("embedding") or table["embedding"]
    parents = {**table["parents"], **own.get("parents", {})}
    return ModuleNames(
        layers=chosen,
        embedding=f"{_parent(embedding['parents'], chosen)}.{embedding['model']}",
        head=_mentioned(own.get("head") or table["head"], words, r"(?:^|[\^:])", r"\b"),
        parents={kind: _mentioned(names, words, r"\b", "") for kind, names in parents.items()},
        leaves={**table["leaves"], **own.get("leaves", {})},
        paths={name: _mentioned(paths, words, r"\b", "") for name, paths in {**table["paths"], **own.get("paths", {})}.items()},
        fused={part: fused for fused, parts in table["fused"].items() for part in parts},
    )


def router_names(layers: tuple[Layer, ...]) -> frozenset[str]:
    """The names of the routers among the matrices of a model."""
    unique = {id(layer): layer for layer in layers}
    return frozenset(matrix.name for layer in unique.values() for matrix in layer.matrices if matrix.kind == "router")


def _parent(parents: list[str], layers: str) -> str:
    """The module that holds both the layers and the embedding."""
    outer = layers.rpartition(".")[0]
    return outer if outer in parents else parents[0]


def _mentioned(names: list[str], words: str, before: str, after: str) -> str:
    """The name that occurs most often in `words` between two expressions, the first of those that do equally often."""
    if len(names) == 1:
        return names[0]
    patterns = [re.compile(f"{before}{re.escape(name.replace(_EXPERT, ''))}{after}", re.M) for name in names]
    counts = [sum(1 for _ in pattern.finditer(words)) for pattern in patterns]
    return names[counts.index(max(counts))]


@cache
def _table() -> Any:
    return yaml.safe_load((Path(__file__).parent / "module_names.yaml").read_text(encoding="utf-8"))


def words_of(values: object) -> str:
    """All keys and texts of a configuration, a line each, without the escapes of regular expressions; none of other models' modules."""
    lines = (text.replace("\\", "") for text in _texts(values))
    return "\n" + "\n".join(line for line in lines if not _OTHER_MODELS.search(line)) + "\n"


def _texts(values: object) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for name, value in values.items():
            yield str(name)
            yield from _texts(value)
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value)

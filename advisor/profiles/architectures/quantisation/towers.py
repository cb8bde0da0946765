"""The formats of a multimodal checkpoint's towers: the model's dtype, unless rules of the quantisation name and convert them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from advisor.profiles.architectures.layers import Matrix
from advisor.profiles.architectures.quantisation.module import Module, Quantisation
from advisor.profiles.architectures.towers import Tower

_NAMED = {"vision": re.compile(r"vis(?:ion|ual)"), "audio": re.compile(r"audio")}
_LEFT_OUT = re.compile(r"^-:|ignore|exclude|skip|not_convert|not_quant")
"""Names of lists of modules that stay as they are, and GPTQ's expressions of such modules."""
_WORDS = ("visual", "vision", "audio")
_PARENTS = {
    "vision": ("visual", "model.visual", "vision_tower", "model.vision_tower", "vision_model"),
    "audio": ("audio_tower", "model.audio_tower"),
}


def stored_towers(towers: tuple[Tower, ...], quantisation: Quantisation | None, rules: object, plain: str) -> tuple[Tower, ...]:
    """The towers with the format of each matrix. `rules` is the quantisation's configuration as it stands in the file.

    Recipes quantise language models: a tower that no rule names, or only lists of what is left out, stays in `plain`, the model's dtype.
    One that another rule names has the format that the rules give to a linear layer under its name.
    """
    texts = "\n".join(_converting(rules))
    stored = []
    for tower in towers:
        named = quantisation is not None and _NAMED[tower.kind].search(texts) is not None
        matrices = tower.matrices
        if named and quantisation is not None:
            matrices = tuple(replace(matrix, stored=_format(tower.kind, texts, matrix, quantisation)) for matrix in matrices)
        stored.append(replace(tower, matrices=matrices, format=plain))
    return tuple(stored)


def _converting(rules: object) -> Iterator[str]:
    """Keys and texts of a configuration, without lists of modules that are left out."""
    if isinstance(rules, str):
        yield rules
    elif isinstance(rules, Mapping):
        for name, value in rules.items():
            if not _LEFT_OUT.search(str(name)) and not _stays(value):
                yield str(name)
                yield from _converting(value)
    elif isinstance(rules, list):
        for value in rules:
            yield from _converting(value)


def _stays(value: object) -> bool:
    """Whether an entry of a configuration leaves its modules in 16 bits."""
    return value is False or (isinstance(value, Mapping) and value.get("bits") in (16, 32))


def _format(kind: str, texts: str, matrix: Matrix, quantisation: Quantisation) -> str | None:
    """The format of a linear layer of a tower under the names that the rules use; `None` where they convert it under none."""
    modules = _modules([parent for parent in _PARENTS[kind] if any(word in parent and word in texts for word in _WORDS)], matrix)
    return next((format for module in modules if (format := quantisation.resolve(module)) is not None), None)


def _modules(parents: list[str], matrix: Matrix) -> Iterator[Module]:
    for parent in parents:
        path = f"{parent}.{matrix.name}"
        yield Module(path=path, relative=path, classes=("Linear",), kind="mlp", n=matrix.n, k=matrix.k)

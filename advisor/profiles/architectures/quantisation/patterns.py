"""How libraries match the paths of modules: regular expressions, wildcards, components of paths."""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation.module import Module

Match = Callable[[str], bool]
_REGEX_CHARACTERS = re.compile(r"[\\()\[\]|^$+?{}]")
_NESTED = re.compile(r"[+*}]\)+[+*{]|[+*}][^()]*\)+[+*{]")
# The end of a component of a path, as `should_convert_module` of transformers has it (quantizers/quantizers_utils.py).
_BOUNDARY = r"(?:(?<=\.)|(?=\.|$))"


def expression(fields: Fields, text: str) -> re.Pattern[str]:
    """The compiled regular expression.

    Raises `AdvisorError` `model-config` for one that is none, or that repeats a repetition: its time may grow exponentially.
    """
    if _NESTED.search(text):
        raise fields.problem(f"`{text}` repeats a repetition, which may take for ever to match")
    try:
        return _compiled(text)
    except re.error as error:
        raise fields.problem(f"`{text}` is no regular expression ({error})") from error


@lru_cache(maxsize=4096)
def _compiled(text: str) -> re.Pattern[str]:
    return re.compile(text)


def by_component(fields: Fields, entries: Iterable[object]) -> Callable[[Module], bool]:
    """Whether an entry of a list such as `modules_to_not_convert` names a module, what holds it, or the end of its path.

    Entries are paths or some components of one (`self_attn`, `model.layers.3.mlp`), with `*` for anything, or regular expressions:
    after `re:`, matched as compressed-tensors does, or bare, matched from the start of the path to the end of a component as
    transformers does.
    """
    names, matches = set[str](), list[Match]()
    for entry in entries:
        text = str(entry)
        if text.startswith("re:"):
            matches.append(_from_start(expression(fields, text[3:])))
        elif _REGEX_CHARACTERS.search(text):
            matches.append(_from_start(expression(fields, f"(?:{text}){_BOUNDARY}")))
        elif "*" in text:
            inner = re.escape(text.strip(".")).replace(r"\*", ".*")
            matches.append(_from_start(_compiled(rf"(?:.*\.)?{inner}(?:\..*)?$")))
        else:
            names.add(text.strip("."))

    def listed(path: str) -> bool:
        return any(match(path) for match in matches) or (bool(names) and not names.isdisjoint(_runs(path)))

    return lambda module: listed(module.path) or any(not names.isdisjoint(_runs(alias)) for alias in module.aliases)


def by_substring(entries: Iterable[object], routers: frozenset[str]) -> Callable[[Module], bool]:
    """Whether an entry of AWQ's `modules_to_not_convert` occurs in a module's path, as AutoAWQ and vLLM match.

    `routers` are the names of the model's routers (`gate`): an entry that ends in one names the router alone, not `gate_proj`. One
    that ends in the number of a layer names that layer alone; `*` stands for anything.
    """
    expressions = []
    for entry in entries:
        text = str(entry)
        inner = re.escape(text).replace(r"\*", ".*")
        if text.rpartition(".")[2] in routers:
            inner = rf"(?:^|\.){inner}(?:\.|$)"
        elif text[-1:].isdigit():
            inner += r"(?!\d)"
        expressions.append(_compiled(inner))
    return lambda module: any(pattern.search(module.path) for pattern in expressions)


def by_wildcard(pattern: str) -> Match:
    """Whether a path matches a pattern with `*` for any text, `fnmatch`'s brackets excepted: module names have none."""
    return _fully(_compiled(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")))


def _from_start(pattern: re.Pattern[str]) -> Match:
    return lambda path: pattern.match(path) is not None


def _fully(pattern: re.Pattern[str]) -> Match:
    return lambda path: pattern.fullmatch(path) is not None


@lru_cache(maxsize=65536)
def _runs(path: str) -> frozenset[str]:
    """Every sequence of adjacent components of a path."""
    parts = path.split(".")
    return frozenset(".".join(parts[start:end]) for start in range(len(parts)) for end in range(start + 1, len(parts) + 1))

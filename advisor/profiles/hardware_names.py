"""Devices by their names as people write them: `4090`, `RTX-3090 Ti`, `M3 Max`, `A100 80GB`. Knows no figure but memory sizes."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from advisor.profiles.files import read_yaml

_DATA = Path(__file__).with_name("hardware_names.yaml")
CATALOGUE = Path(__file__).with_name("hardware")
_MEMORY = re.compile(r"([1-9]\d{0,3})(?:gi?b?)")
_MEMORY_WORD = re.compile(r"\b\d+ ?gi?b?\b")
_SAME_MEMORY = 0.12
"""Relative difference up to which a typed size is the device's: drivers report less than what is printed on the box."""


@cache
def shipped_hardware() -> tuple[str, ...]:
    """The ids of every accelerator that ships with the package, sorted."""
    return tuple(sorted(path.stem for path in CATALOGUE.glob("*.yaml")))


@dataclass(frozen=True, slots=True)
class NamedHardware:
    """What a name stands for."""

    ids: tuple[str, ...]
    """Every device that the name fits, sorted; none for an unknown name."""
    id: str | None
    """The one that is taken; `None` where none is preferred."""


NO_HARDWARE = NamedHardware((), None)


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of `hardware_names.yaml`, and those of every id."""

    ignored: frozenset[str]
    omitted: frozenset[str]
    forms: frozenset[str]
    preferred: dict[frozenset[str], str]
    aliases: dict[frozenset[str], str]
    by_id: dict[str, tuple[str, ...]]
    vocabulary: frozenset[str]


def named_hardware(name: str) -> NamedHardware:
    """The devices of the catalogue that a name fits: an id, or a name with or without maker, brand, memory size and spaces."""
    if name in shipped_hardware():
        return NamedHardware((name,), name)
    typed = _typed_words(name)
    if not typed:
        return NO_HARDWARE
    words, memory = typed
    alias_of = _words().aliases.get(words)
    ids = tuple(id for id in ([alias_of] if alias_of else _fitting(words)) if memory is None or _has_memory(id, memory))
    if len(ids) < 2:
        return NamedHardware(ids, ids[0] if ids else None)
    whole = [id for id in ids if _omitted_words(id, words) <= _words().omitted]
    sized = words if memory is None else words | {f"{memory}g"}
    preferred = _words().preferred.get(sized) or _words().preferred.get(words)
    return NamedHardware(ids, whole[0] if len(whole) == 1 else preferred if preferred in ids else None)


def nearest_ids(name: str) -> tuple[str, ...]:
    """At most four ids of the catalogue for a name that stands for none: those that it fits, or share its number, or are spelt alike."""
    if ids := named_hardware(name).ids:
        return ids[:4]
    plain = _MEMORY_WORD.sub(" ", name.lower())
    numbers = tuple(number for number in re.findall(r"[a-z]*\d+", plain) if len(number) > 1)
    if numbers and (sharing := [id for id in shipped_hardware() if any(word.startswith(numbers) for word in _words().by_id[id])]):
        return tuple(sharing[:4])
    from difflib import get_close_matches  # only an error needs it

    return tuple(get_close_matches("-".join(re.findall(r"[a-z0-9]+", name.lower())), shipped_hardware(), n=4, cutoff=0.4))


def _typed_words(name: str) -> tuple[frozenset[str], int | None] | None:
    """The words of a name without the ignored ones, and its memory size in GiB; `None` where a word is unknown or none is left."""
    pieces: list[str] = []
    for word in re.findall(r"[a-z0-9]+", re.sub(r"(?<=\d) (?=gi?b\b)", "", name.lower())):
        split = _split(word)
        if split is None:
            return None
        pieces.extend(split)
    whole = [piece for piece in pieces if piece not in _words().ignored]
    sizes = {int(match[1]) for piece in whole if (match := _MEMORY.fullmatch(piece))}
    words = frozenset(_form(piece) for piece in whole if not _MEMORY.fullmatch(piece))
    return (words, next(iter(sizes), None)) if words and len(sizes) < 2 else None


def _split(word: str) -> tuple[str, ...] | None:
    """A typed word as known words, the longest first; `rtx3090ti` is rtx, 3090, ti. `None` where a part is unknown."""
    if word in _words().vocabulary or _MEMORY.fullmatch(word) or _form(word) in _words().forms:
        return (word,)
    for end in range(len(word) - 1, 0, -1):
        if word[:end] in _words().vocabulary and (rest := _split(word[end:])) is not None:
            return (word[:end], *rest)
    return None


def _form(word: str) -> str:
    """A form factor without its generation: `sxm4` is sxm."""
    return "sxm" if re.fullmatch(r"sxm\d?", word) else word


def _fitting(words: frozenset[str]) -> list[str]:
    """Ids that have all of the words, and no others but those that people leave out."""
    forms = _words().forms
    return [
        id
        for id, own in _words().by_id.items()
        if words <= set(own) and all(word in _words().omitted | forms or _is_setting(id, word) for word in _omitted_words(id, words))
    ]


def _omitted_words(id: str, words: frozenset[str]) -> set[str]:
    return set(_words().by_id[id]) - words - _words().ignored


def _is_setting(id: str, word: str) -> bool:
    """Whether a word of an id tells how a device is fitted out: memory size, cores, sockets, channels and memory speed."""
    own = _words().by_id[id]
    after_memory = any(other.startswith("ddr") for other in own[: own.index(word)])
    return bool(re.fullmatch(r"\d+(g|s|c|ch)|x\d|ddr\d", word)) or after_memory or (id.startswith("apple") and word.isdigit())


def _has_memory(id: str, gib: int) -> bool:
    """Whether a device has that much memory, by its id or its data sheet."""
    stated = next((int(word[:-1]) for word in _words().by_id[id] if re.fullmatch(r"\d+g", word)), None)
    if stated is not None:
        return stated == gib
    record: Any = read_yaml(CATALOGUE / f"{id}.yaml", what="hardware")
    return bool(abs(record["memory_bytes"] / 2**30 / gib - 1) < _SAME_MEMORY)


@cache
def _words() -> _Words:
    data: Any = read_yaml(_DATA, what="names of hardware")
    by_id = {id: tuple(_form(word) for word in id.split("-")) for id in shipped_hardware()}
    preferred, aliases = ({frozenset(name.split()): id for name, id in data[key].items()} for key in ("preferred", "aliases"))
    ignored, omitted, forms = (frozenset(data[key]) for key in ("ignored", "omitted", "forms"))
    vocabulary = ignored.union(omitted, forms, *by_id.values(), *aliases)
    return _Words(ignored, omitted, forms, preferred, aliases, by_id, vocabulary)

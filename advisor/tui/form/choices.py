"""Lists to pick from: models, machines and plan files. Imports no Textual."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from advisor.profiles.files import open_regular

MOST_FILES = 30
_HEAD_BYTES = 4096
"""What is read of a file to tell whether it is a plan."""
_VERDICT_WORDS = {"meets": "meets all limits", "at-risk": "meets them at RISK", "misses": "misses a limit"}


@dataclass(frozen=True, slots=True)
class Option:
    """One line of a list, and its value."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class Choices:
    """All lines of a list."""

    options: tuple[Option, ...] = ()
    values_named: Callable[[str], Sequence[str]] = lambda text: ()
    """Values that a text is a name of, though it may not be a part of them; the likeliest first."""

    def matching(self, text: str) -> tuple[Option, ...]:
        """The options that `text` names, then those that have every word of it, the nearest to the first word first."""
        words = text.lower().split()
        if not words:
            return self.options
        by_value = {option.value: option for option in self.options}
        named = [by_value[value] for value in self.values_named(text) if value in by_value]
        matches = [option for option in self.options if all(word in f"{option.value} {option.label}".lower() for word in words)]
        nearest = sorted(matches, key=lambda option: _distance(option.value.lower(), words[0]))
        return tuple(dict.fromkeys((*named, *nearest)))


def models(last: str) -> Choices:
    """The last model, those on this machine, the demo and all shipped architectures."""
    from advisor.profiles.architectures.spec import shipped_models
    from advisor.profiles.model_store import SAME_SHAPE, cached_models

    notes = {"demo": "shipped with its weights: plan, apply and compare on this machine"}
    notes |= dict.fromkeys(cached_models(), "on this machine")
    notes |= dict.fromkeys((*shipped_models(), *SAME_SHAPE), "")
    first = {last: "last used"} if last else {}
    ordered = first | {id: note for id, note in notes.items() if id != last}
    return Choices(tuple(Option(id, f"{id}   {note}".rstrip()) for id, note in ordered.items()))


def machines(here: str) -> Choices:
    """This machine, stored profiles, and every accelerator of the catalogue."""
    from advisor.profiles.hardware_names import shipped_hardware
    from advisor.profiles.store import list_profiles

    stored = [Option(f"profile:{profile.name}", f"{profile.name}   measured profile of {profile.hardware}") for profile in list_profiles()]
    return Choices((Option("", f"this machine   {here}"), *stored, *_plain(shipped_hardware())), _machines_named)


def plan_files(folders: Iterable[Path]) -> Choices:
    """The newest plan files of some folders with model, machine and verdict; a file that cannot be read is listed as such."""
    files = itertools.chain.from_iterable(sorted(folder.glob("*.y*ml")) for folder in dict.fromkeys(folders))
    newest = sorted((file for file in files if _is_plan(file)), key=lambda file: -file.stat().st_mtime)
    return Choices(tuple(Option(str(file), f"{file}   {_plan_words(file)}") for file in newest[:MOST_FILES]))


def _machines_named(text: str) -> list[str]:
    """Ids of the devices that `text` is a name of, as `A100 80GB` is; the one that is taken first."""
    from advisor.profiles.hardware_names import named_hardware

    named = named_hardware(text)
    return sorted(named.ids, key=lambda id: id != named.id)


def _is_plan(file: Path) -> bool:
    try:
        with open_regular(file) as content:
            first_lines = content.read(_HEAD_BYTES).splitlines()[:10]
    except OSError:
        return False
    return any(line.startswith(b"kind: Plan") for line in first_lines)


def _plan_words(file: Path) -> str:
    from advisor.planfile.store import read_plan
    from advisor.profiles.errors import AdvisorError

    try:
        plan = read_plan(file)
    except AdvisorError:
        return "cannot be read; Enter says why"
    count = f"{plan.machine.gpus} x " if plan.machine.gpus > 1 else ""
    return f"{plan.model.name} on {count}{plan.machine.hardware}, {_VERDICT_WORDS[plan.verdict.status]}"


def _distance(value: str, word: str) -> tuple[int, int]:
    """Sort key: values that begin with `word` first, then those that do after their owner or folder; shorter ones first."""
    begins = (value.startswith(word), value.rpartition("/")[2].startswith(word), True)
    return begins.index(True), len(value)


def _plain(ids: Iterable[str]) -> tuple[Option, ...]:
    return tuple(Option(id, id) for id in ids)

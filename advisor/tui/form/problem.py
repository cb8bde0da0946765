"""Errors in the words of the form: labels in place of flags, keys in place of commands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from advisor.profiles.errors import AdvisorError, ErrorAction
from advisor.tui.form.fields import FIELD_OF_QUESTION, Field

_LISTS = {
    "model": "Enter in the field looks for it on the network; Esc and 0 list models",
    "hardware": "Esc and m list every machine",
    "profile": "Esc and m list stored profiles",
}
"""By field of the question, how to find a value that it accepts."""
_CONSTRAINTS = ("require", "forbid")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer, or why something cannot be done."""

    message: str
    field: str | None = None
    """Name of the field of the form at fault; `None` where no field is."""
    help: tuple[str, ...] = ()

    def sentences(self, helps: int | None = None) -> str:
        """The message and the first `helps` lines of help (all by default) as running text."""
        parts = (self.message, *(_capitalised(re.sub(r" {2,}", " ", line)) for line in self.help[:helps]))
        return " ".join(part if part[-1:] in ".?!" else f"{part}." for part in parts).removesuffix(".")


def problem_of(error: AdvisorError) -> Problem:
    """An error with the help of the command line, as where a file or a command is at fault."""
    return Problem(_message(error), None, error.help)


def question_problem(error: AdvisorError, text: str = "") -> Problem:
    """An error about the question: the field at fault, and what to do with it. `text` is what is typed in the field `hardware`."""
    field = FIELD_OF_QUESTION.get(error.field or "")
    if error.field in _CONSTRAINTS:
        return Problem(_message(error), None, ("w changes the constraint of a technique, u undoes the last change",))
    if field is None or error.action is None:
        return problem_of(error)
    return Problem(_message(error), field.name, tuple(_help(field, error, text)))


def _help(field: Field, error: AdvisorError, text: str) -> Iterator[str]:
    if error.field == "hardware" and error.action is ErrorAction.CHOOSE:
        from advisor.profiles.hardware import nearest_ids

        if near := nearest_ids(text):
            yield f"Did you mean {', '.join(near)}?"
    if error.action in (ErrorAction.CHOOSE, ErrorAction.CORRECT, ErrorAction.GIVE) and error.field in _LISTS:
        yield _LISTS[error.field]
    elif error.action is ErrorAction.KEEP_ONE:
        yield f"Keep one of them, such as {field.short_label}"
    elif error.action is ErrorAction.DROP:
        yield f"Leave {field.short_label} empty"
    elif error.value is not None:
        yield f"Write {field.short_label} {error.value:.12g} or {'less' if error.action is ErrorAction.LOWER else 'more'}"


def _message(error: AdvisorError) -> str:
    return ". ".join(map(_capitalised, (error.message, *error.notes)))


def _capitalised(sentence: str) -> str:
    """The sentence with a capital, unless it begins with a path or an id."""
    return sentence[:1].upper() + sentence[1:] if sentence.partition(" ")[0].isalpha() else sentence

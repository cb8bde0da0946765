"""Reads fields of a `config.json` with errors that name the field."""

from collections.abc import Mapping
from typing import Any

from advisor.profiles.errors import AdvisorError, ExitCode

MAX_LAYERS = 10_000
"""Far above any real model; a larger number is taken for a mistake rather than allocated."""

MAX_COUNT = 2**40
"""Far above any real size; products of a few larger ones would overflow a float."""
_SHOWN_CHARACTERS = 60


class Fields:
    """The keys of one config, read by name and checked. `where` names the file in errors."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def count(self, *names: str, default: int | None = None) -> int:
        """The positive whole number under the first of `names` that is set. Raises `AdvisorError` if absent or no such number."""
        name, value = self._first(names)
        if value is None:
            if default is None:
                raise self.problem(f"`{names[0]}` is missing")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.problem(f"`{name}` is {shown(value)}; a positive whole number is needed")
        if value > MAX_COUNT:
            raise self.problem(f"`{name}` is {shown(value)}; at most {MAX_COUNT} is supported")
        return value

    def layer_count(self, name: str = "num_hidden_layers") -> int:
        """The number of layers under `name`. Raises `AdvisorError` above `MAX_LAYERS`."""
        value = self.count(name)
        if value > MAX_LAYERS:
            raise self.problem(f"`{name}` is {value}; at most {MAX_LAYERS} are supported")
        return value

    def size(self, name: str, default: int = 0) -> int:
        """The whole number from 0 under `name`; `default` if it is not set. Raises `AdvisorError` for anything else."""
        value = self.values.get(name)
        if value is None:
            return default
        return 0 if value == 0 and not isinstance(value, bool) else self.count(name)

    def flag(self, *names: str, default: bool) -> bool:
        """The truth value under the first of `names` that is set. Raises `AdvisorError` for another type."""
        name, value = self._first(names)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.problem(f"`{name}` is {shown(value)}; true or false is needed")
        return value

    def word(self, name: str) -> str | None:
        """The text under `name`, if set. Raises `AdvisorError` for another type."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise self.problem(f"`{name}` is {shown(value)}; a text is needed")
        return value

    def items(self, name: str) -> list[Any] | None:
        """The list under `name`, if set. Raises `AdvisorError` for another type."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, list):
            raise self.problem(f"`{name}` is {shown(value)}; a list is needed")
        return value

    def inner(self, name: str) -> "Fields | None":
        """The mapping under `name`, if set. Raises `AdvisorError` for another type."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.problem(f"`{name}` is {shown(value)}; a mapping is needed")
        return Fields(value, f"{self.where}: {name}")

    def problem(self, what: str, *help_lines: str) -> AdvisorError:
        """The error `model-config` of this config: `what` is wrong, and lines to type next."""
        return AdvisorError("model-config", f"{self.where}: {what}", exit_code=ExitCode.USAGE, help=help_lines, field="model")

    def _first(self, names: tuple[str, ...]) -> tuple[str, Any]:
        return next(((name, self.values[name]) for name in names if self.values.get(name) is not None), (names[0], None))


def shown(value: object) -> str:
    """A value of a config for a message, shortened; a whole number of thousands of digits is not written out."""
    if isinstance(value, int) and abs(value) > 10**_SHOWN_CHARACTERS:
        return "a number of more than 60 digits"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"

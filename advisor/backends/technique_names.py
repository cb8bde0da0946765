"""Techniques as people type them: a name, and options after a colon, as `kv-window:window=128`."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from advisor.backends.technique import Technique
from advisor.backends.techniques import by_name
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.request import Request
from advisor.profiles.technique_name import technique_in

Option = int | bool | str


@dataclass(frozen=True, slots=True)
class TechniqueWord:
    """One technique with the options that were given; the others are free."""

    name: str
    options: tuple[tuple[str, Option], ...] = ()

    def __str__(self) -> str:
        """The word in full, as a plan keeps it."""
        told = ",".join(f"{option}={str(value).lower() if isinstance(value, bool) else value}" for option, value in self.options)
        return f"{self.name}:{told}" if told else self.name


def technique_word(text: str) -> TechniqueWord:
    """Read one word. An option may be shortened to its first letters where no other begins so, and have dashes for underscores.

    Raises `AdvisorError`: `unknown-technique`; `technique-option` for an option that the technique does not take; `usage` for what is
    no option at all.

    >>> str(technique_word("kv-sinks:first=4,window=124"))
    'kv-sinks:first_tokens=4,window=124'
    """
    name, colon, rest = text.strip().partition(":")
    technique = by_name(name)
    if colon and not rest.strip(", "):
        raise _unreadable(f"`{text}` names no option after its colon", technique)
    given = dict(_pair(pair.strip(), text, technique) for pair in rest.split(",") if pair.strip())
    by_name(name, dict(given))
    return TechniqueWord(name, tuple((field.name, given[field.name]) for field in fields(technique) if field.name in given))


def full_words(texts: Iterable[str]) -> tuple[str, ...]:
    """Words as a request holds them: every option by its whole name, each word once. Raises as `technique_word` does."""
    return tuple(dict.fromkeys(str(technique_word(text)) for text in texts))


def settings_of(kind: type[Technique], request: Request) -> tuple[Technique, ...]:
    """The settings of a technique that answer a request: those that a search tries, with the options that the request asks for."""
    variants = kind().variants()
    words = [word for word in request.require if technique_in(word) == kind.name]
    asked = dict(technique_word(words[0]).options) if words else {}
    return tuple(dict.fromkeys(replace(variant, **asked) for variant in variants)) if asked else variants


def _pair(pair: str, text: str, technique: Technique) -> tuple[str, Option]:
    option, is_pair, value = pair.partition("=")
    if not is_pair or not option.strip() or not value.strip():
        raise _unreadable(f"`{pair}` in `{text}` is no option", technique)
    name = _whole_name(option.strip().replace("-", "_"), technique)
    return name, value.strip() if isinstance(getattr(technique, name, None), str) else _value(value.strip())


def _whole_name(option: str, technique: Technique) -> str:
    """The option that begins so, where there is just one; else the text itself, which is then refused."""
    known = [field.name for field in fields(technique)]
    begun = [name for name in known if name.startswith(option)]
    return begun[0] if option not in known and len(begun) == 1 else option


def _value(text: str) -> Option:
    """A number, true or false, or the text itself."""
    return int(text) if text.removeprefix("-").isdecimal() else {"true": True, "false": False}.get(text.lower(), text)


def _unreadable(message: str, technique: Technique) -> AdvisorError:
    return AdvisorError(
        "usage", message, exit_code=ExitCode.USAGE, help=(f"write {_example(technique)}",), field="require", action=ErrorAction.CORRECT
    )


def _example(technique: Technique) -> str:
    """The technique with its options as one would type them."""
    return str(TechniqueWord(technique.name, tuple((field.name, getattr(technique, field.name)) for field in fields(technique))))

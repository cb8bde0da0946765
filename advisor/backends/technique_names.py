"""Techniques as text: a name, and options after a colon, as in `kv-window:window=128`."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from advisor.backends.technique import Technique
from advisor.backends.techniques import by_name, option_text, option_types
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.request import Request
from advisor.profiles.technique_name import technique_in

Option = int | bool | str | None


@dataclass(frozen=True, slots=True)
class TechniqueSpec:
    """A technique by name, with the options that were given. A search may set the others."""

    name: str
    options: tuple[tuple[str, Option], ...] = ()

    def __str__(self) -> str:
        """The canonical text, as plan files write it: options by their whole names, in the order of the technique's fields."""
        options = ",".join(f"{option}={option_text(value)}" for option, value in self.options)
        return f"{self.name}:{options}" if options else self.name


def parse_technique(text: str) -> TechniqueSpec:
    """Parse `text`. An option may be abbreviated to an unambiguous prefix, and may have dashes for underscores.

    Raises `AdvisorError`: `unknown-technique`; `technique-option` for an option that the technique does not take; `usage` for text
    that is not an option.

    >>> str(parse_technique("kv-sinks:first=4,window=124"))
    'kv-sinks:first_tokens=4,window=124'
    """
    name, colon, rest = text.strip().partition(":")
    technique = by_name(name)
    if colon and not rest.strip(", "):
        raise _unreadable(f"`{text}` names no option after its colon", technique)
    given = dict(_pair(pair.strip(), text, technique) for pair in rest.split(",") if pair.strip())
    by_name(name, dict(given))
    return TechniqueSpec(name, tuple((field.name, given[field.name]) for field in fields(technique) if field.name in given))


def canonical_specs(texts: Iterable[str]) -> tuple[str, ...]:
    """The canonical text of each, duplicates removed. Raises as `parse_technique` does."""
    return tuple(dict.fromkeys(str(parse_technique(text)) for text in texts))


def settings_of(kind: type[Technique], request: Request) -> tuple[Technique, ...]:
    """The variants of a technique that a search tries for `request`, with the options that the request gives."""
    variants = kind().variants()
    specs = [text for text in request.require if technique_in(text) == kind.name]
    options = dict(parse_technique(specs[0]).options) if specs else {}
    return tuple(dict.fromkeys(replace(variant, **options) for variant in variants)) if options else variants


def _pair(pair: str, text: str, technique: Technique) -> tuple[str, Option]:
    option, is_pair, value = pair.partition("=")
    if not is_pair or not option.strip() or not value.strip():
        raise _unreadable(f"`{pair}` in `{text}` is no option", technique)
    name = _whole_name(option.strip().replace("-", "_"), technique)
    return name, _value(value.strip(), option_types(type(technique)).get(name, ()))


def _whole_name(option: str, technique: Technique) -> str:
    """The one option of which `option` is a prefix; else `option` itself, which is then refused."""
    names = [field.name for field in fields(technique)]
    matches = [name for name in names if name.startswith(option)]
    return matches[0] if option not in names and len(matches) == 1 else option


def _value(text: str, kinds: tuple[type, ...]) -> Option:
    """`text` as a value of an option of these types; text that is none of them stays text, which is then refused."""
    if type(None) in kinds and text.lower() == "none":
        return None
    if str in kinds:
        return text
    return int(text) if text.removeprefix("-").isdecimal() else {"true": True, "false": False}.get(text.lower(), text)


def _unreadable(message: str, technique: Technique) -> AdvisorError:
    return AdvisorError(
        "usage", message, exit_code=ExitCode.USAGE, help=(f"write {_example(technique)}",), field="require", action=ErrorAction.CORRECT
    )


def _example(technique: Technique) -> str:
    """The technique with all its options, as text."""
    return str(TechniqueSpec(technique.name, tuple((field.name, getattr(technique, field.name)) for field in fields(technique))))

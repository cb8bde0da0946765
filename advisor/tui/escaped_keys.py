"""Esc with a key right behind it arrives as one sequence, which Textual takes for a key with Alt, or for a special character of a Mac."""

from functools import cache

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS  # Textual has no public table of its sequences
from textual.events import Key

_ALT = "alt+"


def as_pressed(event: Key) -> tuple[Key, ...]:
    """Esc and the letter or digit behind it where both came as one sequence; any other key unchanged. No key of the interface has Alt."""
    character = event.key.removeprefix(_ALT) if event.key.startswith(_ALT) else _special_characters().get(event.character or "", "")
    if len(character) != 1:
        return (event,)
    keys = Key("escape", "\x1b"), Key(character, character)
    for key in keys:
        key._sender = event._sender  # as `set_sender`, which has no `None` for an event without one
    return keys


@cache
def _special_characters() -> dict[str, str]:
    """Special character to the digit or sign that it is made from, as `™` from `2`."""
    return {
        keys: sequence[1]
        for sequence, keys in ANSI_SEQUENCES_KEYS.items()
        if isinstance(keys, str) and sequence[:1] == "\x1b" and sequence[1:].isascii() and len(sequence[1:]) == 1
    }

"""Width, colour and character set of text. Text is composed without colour; colour and ASCII are applied last."""

import re
import textwrap
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MIN_WIDTH = 20
_ESCAPE = re.compile("\x1b\\[[0-9;]*m")

# Blue and orange carry meaning; each tone is always paired with a word or a glyph. These codes follow the terminal's theme.
_TONES = {"title": "1", "dim": "2", "good": "34", "risk": "33", "bad": "1;33", "mark": "36"}

_ASCII = str.maketrans({
    "◆": "*", "×": "x", "✓": "+", "–": "-", "−": "-", "·": ".",
    "█": "#", "▓": "=", "▒": "+", "░": ":", "┃": "|", "│": "|", "─": "-",
    "└": "+", "├": "|", "┤": "|", "●": "o", "…": "~", "µ": "u", "≤": "<", "≥": ">",
    "Δ": "d", "’": "'", "“": '"', "”": '"', "→": ">", "±": "~",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """How to draw text: columns, whether to use colour, whether to use ASCII characters only."""

    width: int = 80
    colour: bool = False
    ascii: bool = False

    @property
    def columns(self) -> int:
        """The width to compose for, at least `MIN_WIDTH`."""
        return max(self.width, MIN_WIDTH)

    def paint(self, text: str, tone: str) -> str:
        """`text` in a tone; unchanged when colour is off."""
        return f"\x1b[{_TONES[tone]}m{text}\x1b[0m" if self.colour and text else text

    def finish(self, lines: Iterable[str]) -> str:
        """Join lines into the final text: no control characters from data, no trailing blanks, ASCII if asked for."""
        return "".join(f"{self._line(line)}\n" for line in lines)

    def _line(self, line: str) -> str:
        line = _harmless(line, self.colour).rstrip()
        if not self.ascii:
            return line
        return line.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def _harmless(text: str, colour: bool) -> str:
    """`text` without control characters, except our colour codes: names and error texts come from files."""
    parts: list[str] = []
    position = 0
    for match in _ESCAPE.finditer(text):
        parts.append(_printable(text[position : match.start()]))
        parts.append(match.group() if colour else "")
        position = match.end()
    parts.append(_printable(text[position:]))
    return "".join(parts)


def _printable(text: str) -> str:
    return "".join("?" if unicodedata.category(character)[0] == "C" else character for character in text)


def shown_width(text: str) -> int:
    """Columns that `text` takes on a terminal: colour codes none, wide characters two."""
    plain = _ESCAPE.sub("", text)
    if plain.isascii():
        return len(plain)
    return sum(_columns(character) for character in plain)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, width: int, *, right: bool = False) -> str:
    """`text` filled with blanks to `width` columns; `right` puts the blanks in front."""
    blanks = " " * max(0, width - shown_width(text))
    return blanks + text if right else text + blanks


def clip(text: str, width: int) -> str:
    """`text` on one line, cut to `width` columns with an ellipsis where it is longer."""
    text = " ".join(text.split())
    if shown_width(text) <= width:
        return text
    start = ""
    for character in _ESCAPE.sub("", text):
        if shown_width(start) + _columns(character) >= width:
            break
        start += character
    return start + "…" if width > 0 else ""


_GLUE = "\u00a0"
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|s|tokens|tok/s|req/s|[KMGT]i?B)(?![\w/]))")
"""The space between a number and its unit, at which a line is not broken."""


def wrap(text: str, look: Look, *, first: str = "", rest: str | None = None) -> list[str]:
    """`text` in lines of at most the look's width; `first` opens the first line, `rest` (default: as many blanks) the others.

    A `first` that takes more than half of the width stands on a line of its own.
    """
    if shown_width(first) > look.columns // 2:
        return [clip(first, look.columns), *wrap(text, look, first="  ")]
    rest = " " * shown_width(first) if rest is None else rest
    words = _BEFORE_UNIT.sub(_GLUE, " ".join(text.split()))
    lines = textwrap.wrap(words, look.columns, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return [line.replace(_GLUE, " ") for line in lines] or [first.rstrip()]


def flow(parts: Iterable[str], look: Look) -> list[str]:
    """`parts` side by side with two blanks between them, on as many lines as it takes; a part is not broken where it fits."""
    lines: list[str] = []
    for part in parts:
        if lines and shown_width(lines[-1]) + 2 + shown_width(part) <= look.columns:
            lines[-1] += f"  {part}"
        else:
            lines += wrap(part, look)
    return lines

"""Texts of `advisor.rendering.text` in the colours of a theme: blue and orange after Okabe and Ito, darker on a light ground."""

import re
from collections.abc import Iterable

from rich.style import Style
from rich.text import Text

_PIECE = re.compile("\x1b\\[([0-9;]*)m")
_DARK = {"34": "#56B4E9", "33": "#E69F00", "1;33": "bold #E69F00", "36": "#56B4E9", "2": "#A8A8A8", "1": "bold"}
_LIGHT = {"34": "#005A8C", "33": "#7A4F00", "1;33": "bold #7A4F00", "36": "#005A8C", "2": "#555555", "1": "bold"}
_PLAIN = {"34": "", "33": "bold", "1;33": "bold reverse", "36": "", "2": "dim", "1": "bold"}
PALETTES = {"dark": _DARK, "light": _LIGHT, "none": _PLAIN}
TONES = {"title": "1", "dim": "2", "good": "34", "risk": "33", "bad": "1;33", "mark": "36", "": ""}
"""SGR codes of tones, as in `advisor.rendering.text.style`."""


def styled(lines: Iterable[str], palette: str) -> Text:
    """Lines with SGR codes as text in the colours of a palette. Brackets in them are text, not markup."""
    styles, text = PALETTES[palette], Text(no_wrap=True, end="")
    for number, line in enumerate(lines):
        text.append("\n" if number else "")
        style, position = "", 0
        for match in _PIECE.finditer(line):
            text.append(line[position : match.start()], Style.parse(style))
            style, position = styles.get(match.group(1), ""), match.end()
        text.append(line[position:], Style.parse(style))
    return text


def tone_style(tone: str, palette: str) -> str:
    """The Rich style of a tone."""
    return PALETTES[palette].get(TONES[tone], "")

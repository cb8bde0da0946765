"""The width of text output: the terminal's, or what `COLUMNS` says."""

import os
import sys
import textwrap
from typing import TextIO

PIPE_WIDTH = 100
"""Columns of text that is not written to a terminal, so that files are the same everywhere."""
LEAST_WIDTH = 60
"""Columns below which text is not made narrower: tables would be cut."""


def text_width(stream: TextIO | None = None) -> int:
    """Columns for text: `COLUMNS` where it is a number, else those of the terminal `stream` (default: stdout), else `PIPE_WIDTH`."""
    return _stated_width(stream or sys.stdout) or PIPE_WIDTH


def fitted(text: str, stream: TextIO | None = None) -> str:
    """Lines that are longer than the terminal `stream` (default: stderr) broken between words and indented; a pipe's are unchanged."""
    stream = stream or sys.stderr
    width = _stated_width(stream) if stream.isatty() else None
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in ([line] if len(line) <= width else _broken(line, width)))


def _broken(line: str, width: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False, drop_whitespace=True)


def _stated_width(stream: TextIO) -> int | None:
    """Columns of a terminal, or those that `COLUMNS` states; `None` where neither says it."""
    stated = os.environ.get("COLUMNS", "")
    if stated.isdecimal() and int(stated):
        return max(int(stated), LEAST_WIDTH)
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # no terminal, or a stream without a file
        return None
    return max(columns, LEAST_WIDTH) if columns else None

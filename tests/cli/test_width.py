"""Text follows the width of the terminal, and of `COLUMNS`, from 60 columns up; in a pipe it is the same everywhere."""

import contextlib
import io
import os
import pty
import struct
from collections.abc import Iterator
from fcntl import ioctl
from termios import TIOCSWINSZ
from typing import TextIO

import pytest

from advisor.cli.main import main
from advisor.cli.width import fitted, text_width


@contextlib.contextmanager
def terminal_of(columns: int) -> Iterator[TextIO]:
    """A terminal that many columns wide."""
    leader, follower = pty.openpty()
    try:
        ioctl(follower, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with os.fdopen(follower, "w") as stream:
            yield stream
    finally:
        os.close(leader)


@pytest.mark.parametrize(("columns", "expected"), [(60, 60), (97, 97), (240, 240), (40, 60), (0, 100)])
def test_the_width_is_the_terminals(columns: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    with terminal_of(columns) as stream:
        assert text_width(stream) == expected


@pytest.mark.parametrize(("stated", "expected"), [("72", 72), ("20", 60), ("", 100), ("0", 100), ("wide", 100)])
def test_columns_say_the_width_of_a_pipe_too(stated: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", stated)
    assert text_width(io.StringIO()) == expected


def test_a_line_of_a_terminal_is_broken_between_words_and_one_of_a_pipe_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "  help: " + "word " * 30 + "end"
    monkeypatch.delenv("COLUMNS", raising=False)
    with terminal_of(64) as stream:
        lines = fitted(line, stream).split("\n")
    monkeypatch.setenv("COLUMNS", "64")
    assert fitted(line, io.StringIO()) == line
    assert max(map(len, lines)) <= 64
    assert all(part.startswith("    word") for part in lines[1:])
    assert " ".join(" ".join(lines).split()) == " ".join(line.split())


@pytest.mark.parametrize("columns", [60, 75, 110])
@pytest.mark.parametrize(
    "arguments",
    [
        ["hardware", "4090"],
        ["models", "deepseek-ai/DeepSeek-V4-Flash"],
        ["explain", "kv-int8"],
        ["plan", "--help"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_every_line_of_a_command_fits(
    columns: int, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    main(arguments)
    out = capsys.readouterr().out
    assert out
    assert [line for line in out.splitlines() if len(line) > columns] == []

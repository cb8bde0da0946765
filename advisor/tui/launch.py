"""Starts the terminal interface, or refuses where there is no terminal. Loads Textual only after that check."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from advisor.profiles.errors import AdvisorError, ExitCode

if TYPE_CHECKING:
    from advisor.tui.form.saved_state import SavedState


class Stream(Protocol):
    """The part of stdin and stderr that is used."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""


def check_terminal(stdin: Stream | None, stderr: Stream | None) -> None:
    """Raise `AdvisorError` `not-a-terminal` unless stdin, which is read, and stderr, which is drawn on, are a terminal."""
    for name, stream in (("stdin", stdin), ("stderr", stderr)):
        if stream is None or not stream.isatty():
            raise _no_terminal(f"the terminal interface needs a terminal, and {name} is none")
    if os.environ.get("TERM") == "dumb":
        raise _no_terminal("the terminal interface needs a terminal that can be drawn on, and TERM is dumb")


def open_interface(*, ascii: bool = False, light: bool = False, resume: bool = False) -> int:
    """Run the terminal interface until it is left; returns the exit code.

    Raises `AdvisorError` `not-a-terminal`, `bad-session` or `bad-keymap` before anything is drawn.
    """
    check_terminal(sys.__stdin__, sys.__stderr__)
    from advisor.tui.app import AdvisorApp
    from advisor.tui.form.saved_state import state_file
    from advisor.tui.keys import keymap_file, load_keymap
    from advisor.tui.settings import AppSettings
    from advisor.tui.workers.planning_client import PlanningClient

    if not os.environ.get("NO_COLOR"):  # Textual drops colours for an empty value too
        os.environ.pop("NO_COLOR", None)
    file = state_file()
    state, notice = restore_state(file, resume=resume)
    encoding = getattr(sys.__stderr__, "encoding", None) or "ascii"
    settings = AppSettings(
        ascii=ascii or "utf" not in encoding.lower(),
        no_colour=bool(os.environ.get("NO_COLOR")),
        light=light,
        file=file,
        resume=resume,
        notice=notice,
    )
    app = AdvisorApp(PlanningClient(), state, settings)
    app.set_keymap(load_keymap(keymap_file()))
    app.run()
    return ExitCode(app.return_code or 0)


def restore_state(file: Path, *, resume: bool) -> tuple["SavedState", str]:
    """The saved state, and a notice for the first screen.

    A file that cannot be read is renamed and an empty state used; with `resume`, `AdvisorError` `bad-session` is raised instead.
    """
    from advisor.tui.form.saved_state import SavedState, load_state, set_aside

    try:
        return load_state(file) or SavedState(), ""
    except AdvisorError as error:
        if resume:
            raise
        with contextlib.suppress(OSError):
            set_aside(file)
        return SavedState(), f"{error.message}. The form starts empty; that file was renamed."


def _no_terminal(message: str) -> AdvisorError:
    return AdvisorError(
        "not-a-terminal",
        message,
        exit_code=ExitCode.USAGE,
        help=("advisor plan MODEL   plans without one", "advisor --help   lists every command"),
    )

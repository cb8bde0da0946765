"""Opens the session on a terminal, or says politely why not. Loads Textual only once it is sure."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from advisor.profiles.errors import AdvisorError, ExitCode

if TYPE_CHECKING:
    from advisor.tui.form.saved_state import SessionState


class Stream(Protocol):
    """What is asked of stdin and stderr."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""


def check_terminal(stdin: Stream | None, stderr: Stream | None) -> None:
    """Raise `AdvisorError` `not-a-terminal` where no session can be drawn: it reads from stdin and draws on stderr."""
    for name, stream in (("stdin", stdin), ("stderr", stderr)):
        if stream is None or not stream.isatty():
            raise _no_terminal(f"the session needs a terminal, and {name} is none")
    if os.environ.get("TERM") == "dumb":
        raise _no_terminal("the session needs a terminal that can be drawn on, and TERM is dumb")


def open_session(*, ascii: bool = False, light: bool = False, resume: bool = False) -> int:
    """Run the session until it is left. Raises `AdvisorError` `not-a-terminal`, `bad-session` or `bad-keymap` before it is drawn."""
    check_terminal(sys.__stdin__, sys.__stderr__)
    from advisor.tui.app import AppSettings, SessionApp
    from advisor.tui.form.saved_state import session_file
    from advisor.tui.keys import keymap_file, load_keymap
    from advisor.tui.workers.planning_client import PlanningClient

    if not os.environ.get("NO_COLOR"):  # an empty one says nothing, but Textual takes it for a wish
        os.environ.pop("NO_COLOR", None)
    file = session_file()
    state, notice = kept_state(file, resume=resume)
    encoding = getattr(sys.__stderr__, "encoding", None) or "ascii"
    setting = AppSettings(
        ascii=ascii or "utf" not in encoding.lower(),
        no_colour=bool(os.environ.get("NO_COLOR")),
        light=light,
        file=file,
        resume=resume,
        notice=notice,
    )
    app = SessionApp(PlanningClient(), state, setting)
    app.set_keymap(load_keymap(keymap_file()))
    app.run()
    return ExitCode(app.return_code or 0)


def kept_state(file: Path, *, resume: bool) -> tuple["SessionState", str]:
    """The session as it was left, and what to say of it. Only who asked for that very session is refused where it cannot be read."""
    from advisor.tui.form.saved_state import SessionState, load_session, set_aside

    try:
        return load_session(file) or SessionState(), ""
    except AdvisorError as error:
        if resume:
            raise
        with contextlib.suppress(OSError):
            set_aside(file)
        return SessionState(), f"{error.message}. A new session begins; that file is kept aside."


def _no_terminal(message: str) -> AdvisorError:
    return AdvisorError(
        "not-a-terminal",
        message,
        exit_code=ExitCode.USAGE,
        help=("advisor plan MODEL   plans without one", "advisor --help   lists every command"),
    )

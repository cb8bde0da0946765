"""What every screen of the session knows: its app, by type, and whom to tell of faults."""

from typing import TYPE_CHECKING, Any, cast

from textual.screen import Screen
from textual.widget import Widget
from textual.worker import Worker, WorkerState

from advisor.cli.failures import describe
from advisor.tui.status_text import problem_of

if TYPE_CHECKING:
    from advisor.tui.app import SessionApp

    _Base = Screen[Any]
else:
    _Base = object


def session_of(widget: Widget) -> "SessionApp":
    """The app that a widget belongs to."""
    return cast("SessionApp", widget.app)


class TellsFaults(_Base):
    """A screen with threads of its own: Textual tells their faults to the screen alone, and nobody would hear of them."""

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A fault of our own in a thread: kept in a log, told in a line; the session goes on."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            session_of(self).tell(problem_of(describe(event.worker.error)).sentences())

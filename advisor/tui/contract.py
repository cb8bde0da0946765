"""The interface of the app for its screens, and the base classes of screens. Screens import this module, never the app or its jobs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from textual.screen import ModalScreen, Screen
from textual.worker import Worker, WorkerState

from advisor.tui.app_planning import PlanningController
from advisor.tui.app_state import StateStore
from advisor.tui.observers import Observers
from advisor.tui.settings import AppSettings

if TYPE_CHECKING:  # loaded with the planner and with the first long work, after the first frame
    from advisor.rendering.text.style import Look
    from advisor.tui.workers.machine_tasks import MachineTasks

Result = TypeVar("Result")


class Jobs(Protocol):
    """The interface for long work and finished runs."""

    chip_changed: Observers

    @property
    def chip(self) -> str:
        """The work in the background in a few words; empty where there is none."""

    @property
    def tasks(self) -> "MachineTasks":
        """The tasks on this machine: measure, apply, read runs, refit profiles."""

    def compare_run(self) -> None:
        """Show predicted against measured for the latest run of the selected plan, or a list of runs."""

    def pick_run(self) -> None:
        """Show the list of runs on this machine."""


class Interface(Protocol):
    """The interface of the app."""

    @property
    def settings(self) -> AppSettings:
        """How the interface is drawn."""

    @property
    def store(self) -> StateStore:
        """The saved state."""

    @property
    def planning(self) -> PlanningController:
        """The question and its answers."""

    @property
    def jobs(self) -> Jobs:
        """Long work and finished runs."""

    @property
    def palette(self) -> str:
        """The colours of texts: `dark`, `light` or `none`."""

    def look(self, width: int) -> "Look":
        """How `advisor.rendering.text` draws into `width` columns."""

    def ascii_only(self, line: str) -> str:
        """The line, in ASCII where the settings ask for it."""

    def box_title(self, line: str) -> str:
        """The line as the title of a box, its brackets escaped."""

    def open_screen(self, screen: Screen[Result], then: Callable[[Result | None], None] | None = None) -> None:
        """Show a screen over the present one; `then` receives its result, `None` where it was left with Esc."""

    def go_to(self, mode: str) -> None:
        """Show the screen `start` or `plan`."""

    def show_message(self, sentence: str) -> None:
        """Show a sentence in the message line of the Plan screen, elsewhere in a notification."""

    def show_fault(self, error: BaseException) -> None:
        """Log an unexpected error of a thread and show it as a message."""


class AdvisorScreen(Screen[Result]):
    """A screen with the interface of its app."""

    def __init__(self, ui: Interface) -> None:
        super().__init__()
        self.ui = ui

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Show an unexpected error of a thread that this screen started: Textual reports it to the screen alone."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.ui.show_fault(event.worker.error)


class AdvisorModal(ModalScreen[Result]):
    """A modal `AdvisorScreen`. Textual styles a class by its first base, so it cannot extend `AdvisorScreen`."""

    def __init__(self, ui: Interface) -> None:
        super().__init__()
        self.ui = ui

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Show an unexpected error of a thread that this screen started: Textual reports it to the screen alone."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.ui.show_fault(event.worker.error)

"""The app of the terminal interface: owns the controllers, the screens, the theme and the keys."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.events import Event, Key
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from advisor.cli.failures import describe
from advisor.tui import gc_control
from advisor.tui.app_jobs import JobsController
from advisor.tui.app_planning import PlanningController
from advisor.tui.app_state import StateStore
from advisor.tui.commands import open_palette, system_commands
from advisor.tui.form.problem import problem_of
from advisor.tui.form.saved_state import SavedState
from advisor.tui.key_queue import KeyQueue
from advisor.tui.keys import APP_KEYS
from advisor.tui.screens.help import HelpScreen
from advisor.tui.screens.plan import PlanScreen
from advisor.tui.screens.start import StartScreen
from advisor.tui.settings import AppSettings
from advisor.tui.themes import use_theme
from advisor.tui.workers.planning_client import PlanningClient

if TYPE_CHECKING:
    from advisor.rendering.text.style import Look

Result = TypeVar("Result")


class AdvisorApp(App[None]):
    """Start and Plan screens over one question."""

    TITLE = "advisor"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [*APP_KEYS]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - an instance variable by Textual's declaration
        (0, "-tiny"),
        (60, "-narrow"),
        (100, "-normal"),
        (170, "-wide"),
    ]

    def __init__(self, client: PlanningClient, state: SavedState, settings: AppSettings) -> None:
        super().__init__(ansi_color=settings.no_colour)
        self.settings = settings
        self.store = StateStore(self, state, settings.file)
        self.planning = PlanningController(self, client, self.store)
        self.jobs = JobsController(self, self)
        self._key_queue = KeyQueue(self, super().on_event)
        self.add_mode("start", partial(StartScreen, self))
        self.add_mode("plan", partial(PlanScreen, self))

    def on_mount(self) -> None:
        """Show the first screen, and detect the machine meanwhile."""
        self._gc_thresholds = gc_control.defer_full_collections()
        if not self.settings.no_colour:
            use_theme(self, "light" if self.settings.light else "dark")
        self.set_class(self.settings.ascii, "-ascii")
        self.go_to("plan" if self.settings.resume else "start")
        if self.settings.notice:
            self.notify(self.settings.notice, severity="warning", markup=False)
        self.planning.detect_machine()
        if self.store.state.values.text("model"):
            self.planning.plan_soon(0)

    def on_unmount(self) -> None:
        """Save the state, and end the work that runs."""
        gc_control.restore(self._gc_thresholds)
        self.store.close()
        self.jobs.close()

    @property
    def palette(self) -> str:
        """The colours of texts: `dark`, `light` or `none`."""
        if self.settings.no_colour:
            return "none"
        return "light" if not self.current_theme.dark else "dark"

    def look(self, width: int) -> "Look":
        """How `advisor.rendering.text` draws into `width` columns."""
        from advisor.rendering.text.style import Look  # loads the planner's types, which the first frame does not wait for

        return Look(width, colour=True, ascii=self.settings.ascii)

    def ascii_only(self, line: str) -> str:
        """The line, in ASCII where the settings ask for it."""
        if not self.settings.ascii:
            return line
        return self.look(max(len(line), 1)).finish([line]).rstrip("\n")

    def box_title(self, line: str) -> str:
        """The line as the title of a box, its brackets escaped."""
        return self.ascii_only(line).replace("[", "\\[")

    def open_screen(self, screen: Screen[Result], then: Callable[[Result | None], None] | None = None) -> None:
        """Show a screen over the present one; `then` receives its result, `None` where it was left with Esc."""
        self.push_screen(screen, then)

    def go_to(self, mode: str) -> None:
        """Show the screen `start` or `plan`."""
        self.switch_mode(mode)

    def show_message(self, sentence: str) -> None:
        """Show a sentence in the message line of the Plan screen, elsewhere in a notification."""
        if isinstance(self.screen, PlanScreen):
            self.screen.say(sentence)
        else:
            self.notify(sentence, markup=False)

    def show_fault(self, error: BaseException) -> None:
        """Log an unexpected error of a thread and show it as a message."""
        self.show_message(problem_of(describe(error)).sentences())

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Log an unexpected error of a thread of a controller, and show it as the problem of the question."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.planning.show_problem(problem_of(describe(event.worker.error)))

    async def on_event(self, event: Event) -> None:
        """Queue keys, and let the frame after a key be drawn before planning continues."""
        if isinstance(event, Key):
            self.planning.client.pause_for_frame()
            self.planning.defer_collection()
        await self._key_queue.on_event(event)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every key of the screen as a command, and the other theme."""
        return system_commands(self, screen)

    def action_command_palette(self) -> None:
        """Open the command palette."""
        open_palette(self)

    def action_help(self) -> None:
        """Show every key of the screen below."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self, self.screen))

    def action_profile(self) -> None:
        """Measure this machine."""
        self.jobs.profile()

    def action_apply(self) -> None:
        """Review the selected plan and apply it."""
        self.jobs.apply()

    async def action_quit(self) -> None:
        """Leave the app, after a question where work runs."""
        self.jobs.quit()

"""Long work in front: its steps, one bar, time left, the last lines of its log. Leaving the screen leaves the work running."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Static

from advisor.tui.contract import session_of
from advisor.tui.keys import MODAL_KEYS, WORK_KEYS
from advisor.tui.palette import toned
from advisor.tui.panels.stable_text import LEAST_WIDTH
from advisor.tui.workers.job import Job
from advisor.tui.workers.job_progress import Ending
from advisor.tui.workers.job_text import job_lines

_REDRAW_S = 0.2
_OWN_ROWS = 3
"""Of the text beside stages and log: the bar and the blanks around it."""


COMPARE, AGAIN = "compare", "again"


class WorkScreen(ModalScreen[str]):
    """Gives back what is to follow: `COMPARE` or `AGAIN`."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS, *WORK_KEYS]

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def compose(self) -> ComposeResult:
        """The work in a box."""
        with Vertical(classes="box tall work") as box:
            box.border_title = session_of(self).titled(self._job.task.title)
            with VerticalScroll(classes="told"):
                yield Static("", id="work", markup=False)
            yield Static("", id="work-hint", classes="hint", markup=False)

    def on_mount(self) -> None:
        """Follow the work."""
        self.set_interval(_REDRAW_S, self.redraw)

    def on_resize(self, event: Resize) -> None:
        """The text follows the size."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw the work as it stands."""
        session, job = session_of(self), self._job
        region = self.query_one(".told").scrollable_content_region
        look = session.look(max(region.width, LEAST_WIDTH))
        room = region.height - _OWN_ROWS - len(job.work.stages)
        self.query_one("#work", Static).update(toned(look.finish(job_lines(job, look, max(room, 1))).splitlines(), session.palette))
        self.query_one("#work-hint", Static).update(self._hint())

    def _hint(self) -> str:
        job = self._job
        if job.stopping:
            return "Stopping: its process is being ended. Esc goes back."
        if job.running:
            return "Esc leaves it running, ctrl+x cancels; what is finished is kept."
        if job.task.verb == "profile" and job.work.ended is Ending.DONE:
            return "Plans follow it now. Esc closes."
        keys = [self._again_hint()] if self._can_go_on else []
        keys += ["c shows predicted against measured"] if self._can_compare else []
        return f"{', '.join([*keys, 'Esc closes'])}."

    def _again_hint(self) -> str:
        unfinished = self._job.work.unfinished
        return f"r goes on from {unfinished[0].name}" if self._job.task.folder is not None and unfinished else "r tries again"

    @property
    def _can_go_on(self) -> bool:
        return not self._job.running and bool(self._job.work.unfinished or self._job.error)

    @property
    def _can_compare(self) -> bool:
        folder = self._job.task.folder
        return not self._job.running and folder is not None and (folder / "run.json").is_file()

    def action_cancel(self) -> None:
        """Ask the work to stop."""
        self._job.cancel()

    def action_compare(self) -> None:
        """Go on to what was measured."""
        if self._can_compare:
            self.dismiss(COMPARE)

    def action_again(self) -> None:
        """Do what is not finished once more."""
        if self._can_go_on:
            self.dismiss(AGAIN)

"""Long work: its stages, a bar, time left, the last lines of its log. Leaving the screen leaves the work running."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.widgets import Static

from advisor.tui.contract import AdvisorModal, Interface
from advisor.tui.keys import MODAL_KEYS, WORK_KEYS
from advisor.tui.palette import styled
from advisor.tui.panels.stable_text import LEAST_WIDTH
from advisor.tui.workers.job import Job
from advisor.tui.workers.job_progress import Ending
from advisor.tui.workers.job_text import job_lines

_REDRAW_S = 0.2
_BAR_ROWS = 3
"""Rows of the bar and of the blank lines around it."""

COMPARE, AGAIN = "compare", "again"


class WorkScreen(AdvisorModal[str]):
    """Returns what follows: `COMPARE`, `AGAIN`, or `None` after Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [*MODAL_KEYS, *WORK_KEYS]

    def __init__(self, ui: Interface, job: Job) -> None:
        super().__init__(ui)
        self._job = job

    def compose(self) -> ComposeResult:
        """The work in a box."""
        with Vertical(classes="box tall work") as box:
            box.border_title = self.ui.box_title(self._job.task.title)
            with VerticalScroll(classes="scroll"):
                yield Static("", id="work", markup=False)
            yield Static("", id="work-hint", classes="hint", markup=False)

    def on_mount(self) -> None:
        """Draw the work again every `_REDRAW_S`."""
        self.set_interval(_REDRAW_S, self.redraw)

    def on_resize(self, event: Resize) -> None:
        """Fit the text to the size."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw the progress of the work."""
        job = self._job
        region = self.query_one(".scroll").scrollable_content_region
        look = self.ui.look(max(region.width, LEAST_WIDTH))
        log_rows = region.height - _BAR_ROWS - len(job.progress.stages)
        self.query_one("#work", Static).update(styled(look.finish(job_lines(job, look, max(log_rows, 1))).splitlines(), self.ui.palette))
        self.query_one("#work-hint", Static).update(self._hint())

    def _hint(self) -> str:
        job = self._job
        if job.stopping:
            return "Stopping: its process is ending. Esc goes back."
        if job.running:
            return "Esc leaves it running, ctrl+x cancels; finished rungs are saved."
        if job.task.verb == "profile" and job.progress.ended is Ending.DONE:
            return "Plans use it now. Esc closes."
        keys = [self._again_hint()] if self._can_repeat else []
        keys += ["c shows predicted against measured"] if self._can_compare else []
        return f"{', '.join([*keys, 'Esc closes'])}."

    def _again_hint(self) -> str:
        unfinished = self._job.progress.unfinished
        return f"r resumes at {unfinished[0].name}" if self._job.task.folder is not None and unfinished else "r tries again"

    @property
    def _can_repeat(self) -> bool:
        return not self._job.running and bool(self._job.progress.unfinished or self._job.error)

    @property
    def _can_compare(self) -> bool:
        folder = self._job.task.folder
        return not self._job.running and folder is not None and (folder / "run.json").is_file()

    def action_cancel(self) -> None:
        """Cancel the work."""
        self._job.cancel()

    def action_compare(self) -> None:
        """Show predicted against measured."""
        if self._can_compare:
            self.dismiss(COMPARE)

    def action_again(self) -> None:
        """Run the unfinished stages again."""
        if self._can_repeat:
            self.dismiss(AGAIN)

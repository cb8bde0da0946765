"""Two plans side by side; one whose numbers are of the closed form is simulated meanwhile."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text
from textual import work
from textual.worker import get_current_worker

from advisor.tui.contract import Interface
from advisor.tui.palette import styled
from advisor.tui.screens.modals import TextScreen

if TYPE_CHECKING:
    from advisor.planning.advice import Candidate
    from advisor.planning.alternatives import Alternative
    from advisor.tui.workers.planning_client import Planned

SIMULATING = "simulating the closed form's numbers ..."


class TwoPlansScreen(TextScreen):
    """Techniques and every number of both plans."""

    def __init__(self, ui: Interface, planned: "Planned", pair: "Sequence[Alternative]") -> None:
        super().__init__(ui, "Two plans", self._side_by_side)
        self._planned = planned
        self._pair = list(pair)

    def on_mount(self) -> None:
        """Simulate what has not been simulated."""
        if not self._show_progress():
            self._simulate()

    def _show_progress(self) -> bool:
        """Show whether a plan is being simulated; returns whether both have been."""
        complete = all(plan.simulated for plan in self._pair)
        self.query_one(".box").border_subtitle = "" if complete else SIMULATING
        return complete

    def _side_by_side(self, width: int) -> Text:
        from advisor.rendering.text.side_by_side import side_by_side  # loads the planner's types, which the first frame does not wait for

        look = self.ui.look(width)
        first, second = (plan.candidate for plan in self._pair)
        lines = side_by_side(first, second, self._planned.advice.limits, look)
        return styled(look.finish(lines).splitlines(), self.ui.palette)

    @work(thread=True, exclusive=True, group="two", exit_on_error=False)
    def _simulate(self) -> None:
        worker, client = get_current_worker(), self.ui.planning.client
        for index, plan in enumerate(self._pair):
            candidate = plan.candidate if plan.simulated else client.simulated(self._planned, plan.id, lambda: worker.is_cancelled)
            if candidate is None or worker.is_cancelled:
                return
            self.app.call_from_thread(self._replace, index, candidate)

    def _replace(self, index: int, candidate: "Candidate") -> None:
        self._pair[index] = replace(self._pair[index], candidate=candidate, simulated=True)
        self._show_progress()
        self.redraw()

"""Two plans side by side; one that is known in closed form only is simulated meanwhile."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text
from textual import work
from textual.worker import get_current_worker

from advisor.tui.contract import TellsFaults, session_of
from advisor.tui.palette import toned
from advisor.tui.screens.modals import TextScreen

if TYPE_CHECKING:
    from advisor.planning.advice import Candidate
    from advisor.planning.alternatives import Alternative
    from advisor.tui.workers.planning_client import Planned

SIMULATING = "the closed form's numbers are being simulated ..."


class TwoPlansScreen(TellsFaults, TextScreen):
    """What each is made of, and every number of both."""

    def __init__(self, planned: "Planned", pair: "Sequence[Alternative]") -> None:
        super().__init__("Two plans", self._drawn)
        self._planned = planned
        self._pair = list(pair)

    def on_mount(self) -> None:
        """Have simulated what is not yet."""
        if not self._told():
            self._simulate()

    def _told(self) -> bool:
        """Say whether all numbers are simulated."""
        known = all(spot.simulated for spot in self._pair)
        self.query_one(".box").border_subtitle = "" if known else SIMULATING
        return known

    def _drawn(self, width: int) -> Text:
        from advisor.rendering.text.side_by_side import (
            side_by_side,  # views load the planner's types, which the first frame does not wait for
        )

        session, limits = session_of(self), self._planned.advice.request.limits
        look = session.look(width)
        first, second = (spot.candidate for spot in self._pair)
        return toned(look.finish(side_by_side(first, second, limits, look)).splitlines(), session.palette)

    @work(thread=True, exclusive=True, group="two", exit_on_error=False)
    def _simulate(self) -> None:
        worker, desk = get_current_worker(), session_of(self).desk
        for place, spot in enumerate(self._pair):
            candidate = spot.candidate if spot.simulated else desk.simulated(self._planned, spot.id, lambda: worker.is_cancelled)
            if candidate is None or worker.is_cancelled:
                return
            self.app.call_from_thread(self._put, place, candidate)

    def _put(self, place: int, candidate: "Candidate") -> None:
        self._pair[place] = replace(self._pair[place], candidate=candidate, simulated=True)
        self._told()
        self.redraw()

"""The plot of TPOT against throughput on logarithmic axes; keys move along the frontier."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.widgets import Static

from advisor.tui.palette import styled

if TYPE_CHECKING:
    from advisor.planning.alternatives import Alternative
    from advisor.profiles.request import Limits
    from advisor.rendering.text.style import Look

_DRAWN = {"frontier": ("◆", 3), "feasible": ("o", 2), "rejected": ("×", 1)}
_NOTHING_TO_DRAW = "No plan has both times and a throughput, or the panel is too small to draw them: 2 lists the plans."
_LEGEND = "◆ best  o ok  × out"


class PlotPanel(Static, can_focus=True):
    """A character for each plan of the table."""

    BORDER_TITLE = "4 Plot"

    def __init__(self) -> None:
        super().__init__("", id="plot", classes="panel", markup=False)
        self._draw: Callable[[], None] | None = None

    def say(self, sentence: str) -> None:
        """Show a sentence, where there is no plan."""
        self._draw = None
        self.border_subtitle = ""
        self.update(sentence, layout=False)

    def on_resize(self) -> None:
        """Draw into the new size."""
        if self._draw is not None:
            self._draw()

    def show(self, plans: "Sequence[Alternative]", selected: str, limits: "Limits", look: "Callable[[int], Look]", palette: str) -> None:
        """Draw these plans, the selected one on top, now and after each resize."""
        self._draw = lambda: self._show(plans, selected, limits, look(self.content_size.width), palette)
        self._draw()

    def _show(self, plans: "Sequence[Alternative]", selected: str, limits: "Limits", look: "Look", palette: str) -> None:
        from advisor.rendering.text.charts import Axes, Point, scatter
        from advisor.rendering.text.style import wrap

        selected_glyph = "@" if look.ascii else "●"
        points = []
        for plan in plans:
            glyph, rank = (selected_glyph, 4) if plan.id == selected else _DRAWN[plan.feasibility.value]
            tpot, speed = plan.candidate.metrics.tpot_ms_p95, plan.candidate.metrics.throughput_tok_s
            if tpot is not None and speed is not None:
                points.append(Point(tpot.value, speed.value, glyph, rank))
        axes = Axes(
            x_name="TPOT p95 ms",
            y_name=f"tok/s  {_LEGEND}",
            x_limit=limits.bound("tpot_ms_p95"),
            y_limit=limits.bound("throughput_tok_s"),
        )
        self.border_subtitle = look.finish([f"{selected_glyph} this  ┃ limit"]).rstrip()
        lines = scatter(points, axes, look.width, max(self.content_size.height, 0)) or wrap(_NOTHING_TO_DRAW, look)
        self.update(styled(look.finish(lines).splitlines(), palette), layout=False)


def frontier_step(plans: "Sequence[Alternative]", selected: str, step: int) -> str | None:
    """Id of the next plan of the frontier by TPOT, in the direction of `step`; `None` at the end.

    From a plan off the frontier, the nearest one on that side.
    """
    points = [(plan.candidate.metrics.tpot_ms_p95.value, plan) for plan in plans if plan.candidate.metrics.tpot_ms_p95 is not None]
    any_best = any(plan.feasibility.value == "frontier" for _, plan in points)
    frontier = sorted(
        (item for item in points if item[1].simulated or (any_best and item[1].feasibility.value == "frontier")), key=lambda item: item[0]
    )
    own_tpot = next((tpot for tpot, plan in points if plan.id == selected), None)
    ids = [plan.id for _, plan in frontier]
    if selected in ids:
        index = ids.index(selected) + step
        return ids[index] if 0 <= index < len(ids) else None
    beyond = [plan.id for tpot, plan in frontier if own_tpot is None or (tpot - own_tpot) * step > 0]
    return (beyond[0] if step > 0 else beyond[-1]) if beyond else None

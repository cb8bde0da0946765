"""The plot: TPOT against throughput, both logarithmic; the selected plan walks along the frontier."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.widgets import Static

from advisor.tui.palette import toned

if TYPE_CHECKING:
    from advisor.planning.alternatives import Alternative
    from advisor.profiles.request import Limits
    from advisor.rendering.text.style import Look

_DRAWN = {"frontier": ("◆", 3), "feasible": ("o", 2), "rejected": ("×", 1)}
_LEGEND = "◆ best  o ok  × out"


class PlotPanel(Static, can_focus=True):
    """Characters over two axes; says the same as the table."""

    BORDER_TITLE = "4 Plot"

    def __init__(self) -> None:
        super().__init__("", id="plot", classes="panel", markup=False)
        self._draw: Callable[[], None] | None = None

    def on_resize(self) -> None:
        """Draw into the new room."""
        if self._draw is not None:
            self._draw()

    def show(self, spots: "Sequence[Alternative]", selected: str, limits: "Limits", look: "Callable[[int], Look]", palette: str) -> None:
        """Draw these plans, the selected one over all others, now and whenever there is other room."""
        self._draw = lambda: self._show(spots, selected, limits, look(self.content_size.width), palette)
        self._draw()

    def _show(self, spots: "Sequence[Alternative]", selected: str, limits: "Limits", look: "Look", palette: str) -> None:
        from advisor.rendering.text.charts import Axes, Point, scatter

        this = "@" if look.ascii else "●"
        points = []
        for spot in spots:
            glyph, rank = (this, 4) if spot.id == selected else _DRAWN[spot.zone.value]
            tpot, speed = spot.candidate.metrics.tpot_ms_p95, spot.candidate.metrics.throughput_tok_s
            if tpot is not None and speed is not None:
                points.append(Point(tpot.value, speed.value, glyph, rank))
        axes = Axes(
            x_name="TPOT ms",
            y_name=f"tok/s  {_LEGEND}",
            x_limit=limits.tpot_ms_p95,
            y_limit=limits.throughput_tok_s,
        )
        self.border_subtitle = look.finish([f"{this} this  ┃ limit"]).rstrip()
        lines = scatter(points, axes, look.width, max(self.content_size.height, 0))
        self.update(toned(look.finish(lines).splitlines(), palette), layout=False)


def frontier_step(spots: "Sequence[Alternative]", selected: str, step: int) -> str | None:
    """The next plan of the frontier by TPOT, from the selected one; `None` at the end. From off the frontier, the nearest on that side."""
    known = [(spot.candidate.metrics.tpot_ms_p95.value, spot) for spot in spots if spot.candidate.metrics.tpot_ms_p95 is not None]
    best = any(spot.zone.value == "frontier" for _, spot in known)
    on_it = sorted((item for item in known if item[1].simulated or (best and item[1].zone.value == "frontier")), key=lambda item: item[0])
    at = next((tpot for tpot, spot in known if spot.id == selected), None)
    ids = [spot.id for _, spot in on_it]
    if selected in ids:
        place = ids.index(selected) + step
        return ids[place] if 0 <= place < len(ids) else None
    beyond = [spot.id for tpot, spot in on_it if at is None or (tpot - at) * step > 0]
    return (beyond[0] if step > 0 else beyond[-1]) if beyond else None

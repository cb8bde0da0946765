"""The memory bar of the selected plan."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.widgets import Static

from advisor.profiles.formats import GIB
from advisor.tui.palette import toned
from advisor.tui.panels.stable_text import LEAST_WIDTH

if TYPE_CHECKING:
    from advisor.planning.advice import Advice
    from advisor.rendering.text.style import Look


class MemoryPanel(Static):
    """What fills a device, with the budget's mark."""

    def __init__(self) -> None:
        super().__init__("", id="memory", markup=False)
        self._lines = 0
        self._fit: Callable[[], None] | None = None
        """Draws what is shown into the room that there is."""

    def show(self, advice: "Advice", budget_gib: float, look: "Callable[[int], Look]", palette: str) -> None:
        """Draw the chosen plan's memory."""
        from advisor.rendering.text.memory import memory_bar

        def fit() -> None:
            device_gib, room = advice.hardware.memory_bytes / GIB, look(max(self.scrollable_content_region.width, LEAST_WIDTH))
            lines = memory_bar(advice.chosen.metrics, device_gib=device_gib, budget_gib=budget_gib, look=room)
            shown, self._lines = self._lines, len(lines)
            self.update(toned(room.finish(lines).splitlines(), palette), layout=len(lines) != shown)

        self._fit = fit
        fit()

    def on_resize(self) -> None:
        """Lines follow the width."""
        if self._fit is not None:
            self._fit()

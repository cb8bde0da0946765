"""The memory bar of the selected plan."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.widgets import Static

from advisor.profiles.formats import GIB
from advisor.tui.palette import styled
from advisor.tui.panels.stable_text import LEAST_WIDTH

if TYPE_CHECKING:
    from advisor.planning.advice import Advice
    from advisor.rendering.text.style import Look


class MemoryPanel(Static):
    """Memory of one device by kind, with a mark at the budget."""

    def __init__(self) -> None:
        super().__init__("", id="memory", markup=False)
        self._lines = 0
        self._fit: Callable[[], None] | None = None
        """Draws the present content into the present width."""

    def show(self, advice: "Advice", budget_gib: float, look: "Callable[[int], Look]", palette: str) -> None:
        """Draw the memory of the chosen plan of `advice`."""
        from advisor.rendering.text.memory import memory_bar

        def fit() -> None:
            device_gib, sized = advice.hardware.memory_bytes / GIB, look(max(self.scrollable_content_region.width, LEAST_WIDTH))
            lines = memory_bar(advice.chosen.metrics, device_gib=device_gib, budget_gib=budget_gib, look=sized)
            before, self._lines = self._lines, len(lines)
            self.update(styled(sized.finish(lines).splitlines(), palette), layout=len(lines) != before)

        self._fit = fit
        fit()

    def on_resize(self) -> None:
        """Draw into the new width."""
        if self._fit is not None:
            self._fit()

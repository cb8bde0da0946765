"""The memory bar of the selected plan."""

from typing import TYPE_CHECKING

from textual.widgets import Static

from advisor.profiles.byte_sizes import GIB
from advisor.session.toned import toned

if TYPE_CHECKING:
    from advisor.advice import Advice
    from advisor.views.style import Look


class MemoryPanel(Static):
    """What fills a device, with the budget's mark."""

    def __init__(self) -> None:
        super().__init__("", id="memory", markup=False)
        self._lines = 0

    def show(self, advice: "Advice", budget_gib: float, look: "Look", palette: str) -> None:
        """Draw the chosen plan's memory."""
        from advisor.views.memory import memory_bar

        device_gib = advice.hardware.memory_bytes / GIB
        lines = memory_bar(advice.chosen.metrics, device_gib=device_gib, budget_gib=budget_gib, look=look)
        bar = toned(look.finish(lines).splitlines(), palette)
        shown, self._lines = self._lines, len(lines)
        self.update(bar, layout=len(lines) != shown)

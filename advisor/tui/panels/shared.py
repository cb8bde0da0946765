"""The line below the table of plans: what all plans have, and what the short heads mean."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.widgets import Static

from advisor.tui.panels.stable_text import LEAST_WIDTH

if TYPE_CHECKING:
    from advisor.planning.advice import Candidate
    from advisor.rendering.text.style import Look

_HEADS = ("dQ: quality loss", "met: odds of meeting all limits", "~: wide range")


class SharedLine(Static):
    """Techniques that have no column because every plan of the table has them."""

    def __init__(self) -> None:
        super().__init__("", id="shared", markup=False)
        self._lines = 0
        self._fit: Callable[[], None] | None = None
        """Draws the present content into the present width."""

    def show(self, candidates: "Sequence[Candidate]", look: "Callable[[int], Look]") -> None:
        """Name what these plans have in common."""
        from advisor.rendering.text.plans import shared_techniques
        from advisor.rendering.text.style import flow

        techniques = shared_techniques(candidates) if candidates else []
        parts = ([f"In all of them: {', '.join(techniques)}."] if techniques else []) + list(_HEADS)

        def fit() -> None:
            sized = look(max(self.scrollable_content_region.width, LEAST_WIDTH))
            lines = flow(parts, sized)
            before, self._lines = self._lines, len(lines)
            self.update(sized.finish(lines).rstrip("\n"), layout=len(lines) != before)

        self._fit = fit
        fit()

    def on_resize(self) -> None:
        """Draw into the new width."""
        if self._fit is not None:
            self._fit()

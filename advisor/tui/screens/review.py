"""The review of a plan before it is applied: nothing is started or written yet, and Cancel has the focus."""

from rich.text import Text

from advisor.rendering.text.review import review_lines
from advisor.running.review import Review
from advisor.tui.contract import Interface
from advisor.tui.palette import styled
from advisor.tui.screens.asking import AskScreen


class ReviewScreen(AskScreen):
    """What applying would start and write, and how long it takes."""

    BOX = "box tall work"

    def __init__(self, ui: Interface, review: Review, choices: tuple[str, ...]) -> None:
        super().__init__(ui, f"Apply {review.prepared.plan.id} to this machine", (), choices)
        self._review = review

    def text(self, width: int, palette: str) -> Text:
        """The review in `width` columns."""
        look = self.ui.look(width)
        return styled(look.finish(review_lines(self._review, look)).splitlines(), palette)

"""The review of a plan before it is applied; nothing has been done yet, and Cancel has the focus."""

from rich.text import Text

from advisor.rendering.text.review import review_lines
from advisor.running.review import Review
from advisor.tui.contract import session_of
from advisor.tui.palette import toned
from advisor.tui.screens.asking import AskScreen


class ReviewScreen(AskScreen):
    """What applying would start, write and take."""

    BOX = "box tall work"

    def __init__(self, review: Review, choices: tuple[str, ...]) -> None:
        super().__init__(f"Apply {review.prepared.plan.id} to this machine", (), choices)
        self._review = review

    def text(self, width: int, palette: str) -> Text:
        """The review at a width."""
        look = session_of(self).look(width)
        return toned(look.finish(review_lines(self._review, look)).splitlines(), palette)

"""Findings about limits and techniques, cached by question and plan."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advisor.planning.advice import Advice
    from advisor.sensitivity.findings import Insights
    from advisor.tui.workers.planning_client import Planned

MOST_PLANS = 16
"""Plans of which findings are cached; the oldest is dropped."""


class InsightsCache:
    """The findings so far, and the topic that is being computed."""

    def __init__(self) -> None:
        self.in_work: str | None = None
        """The limit or technique that is being computed."""
        self._insights: dict[tuple[object, ...], Insights] = {}

    def of(self, planned: "Planned", advice: "Advice") -> "Insights":
        """The findings about the chosen plan of `advice` so far."""
        from advisor.sensitivity.findings import Insights

        return self._insights.get(_key(planned, advice), Insights())

    def put(self, planned: "Planned", advice: "Advice", insights: "Insights") -> None:
        """Replace the findings about the chosen plan of `advice`."""
        key = _key(planned, advice)
        others = (item for item in self._insights.items() if item[0] != key)
        self._insights = dict([*others, (key, insights)][-MOST_PLANS:])


def _key(planned: "Planned", advice: "Advice") -> tuple[object, ...]:
    values = planned.values
    return (tuple(values.texts.items()), values.require, values.forbid, advice.chosen.id)

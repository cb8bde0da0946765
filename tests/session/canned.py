"""A desk whose answers are canned: nothing in them was predicted, so that frames stay the same."""

from collections.abc import Callable
from dataclasses import replace

from advisor.advice import Advice, Status
from advisor.landscape import Spot, Zone
from advisor.session.asked import Asked
from advisor.session.desk import Desk, Here, Planned
from tests.test_views import FITS, NOTHING_FITS

ASKED = Asked({"model": "canned/llama-8b", "hardware": "canned-24g", "ttft_ms": "0.5s", "tpot_ms": "20", "memory_gib": "20"})
IMPOSSIBLE = ASKED.with_text("tpot_ms", "10")


class CannedDesk(Desk):
    """Answers `ASKED` with three plans, of which one misses a limit, and `IMPOSSIBLE` with two that miss."""

    def answer(self, asked: Asked, abandoned: Callable[[], bool] = lambda: False) -> Planned | None:
        advice = NOTHING_FITS if asked.text("tpot_ms") == "10" else FITS
        return Planned(asked, advice, tuple(map(_spot, advice.ranked)), 20.0, False)

    def advice_for(self, planned: Planned, plan: str) -> Advice:
        chosen = next(spot.candidate for spot in planned.spots if spot.id == plan)
        return replace(planned.advice, chosen=chosen)

    def here(self) -> Here:
        return Here("canned-cpu", "Canned CPU, 64.0 GiB")


def _spot(candidate: object) -> Spot:
    from advisor.advice import Candidate

    assert isinstance(candidate, Candidate)
    zone = Zone.REJECTED if candidate.status is Status.MISSES else Zone.FRONTIER
    return Spot(candidate, zone, True)

"""Why a stack that is better in the preferred metrics is not the plan."""

import dataclasses

import pytest

from advisor.planning.advice import Advice
from advisor.planning.question import PlanQuestion
from advisor.planning.rank_reason import rank_words
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.request import Limits
from advisor.service import plan


@pytest.fixture(scope="module")
def advice() -> Advice:
    limits = Limits(quality_loss_pct=5.0, tpot_ms_p95=40.0)
    return plan(PlanQuestion(model="demo", hardware="rtx-4090", profile="none", prefer="throughput", limits=limits, offline=True))


def changed(metrics: Metrics, **factors: float) -> Metrics:
    return metrics.model_copy(update={name: getattr(metrics, name).scaled(factor) for name, factor in factors.items()})


def with_loss(metrics: Metrics, loss_pct: float) -> Metrics:
    loss = Value(value=loss_pct, low=0.0, high=loss_pct, basis=Basis.LITERATURE)
    return metrics.model_copy(update={"quality_loss_pct": loss})


@pytest.mark.parametrize(
    ("factors", "loss_pct", "techniques", "words"),
    [
        ({"throughput_tok_s": 0.9}, 0.0, 0, "ranks lower for throughput"),
        ({"throughput_tok_s": 1.1}, 4.0, 0, "ranks lower for throughput: the gain does not outweigh its quality loss"),
        ({"throughput_tok_s": 1.1, "tpot_ms_p95": 1e6}, 0.0, 0, "ranks lower for throughput: it meets the limits less surely"),
        ({"throughput_tok_s": 1.003}, 0.0, 1, "ranks lower for throughput: too small a gain for one technique more"),
        ({"throughput_tok_s": 1.1}, 0.0, 0, "ranks above this plan when simulated; the search compares in closed form first"),
    ],
)
def test_the_term_that_outweighs_a_gain_is_named(
    advice: Advice, factors: dict[str, float], loss_pct: float, techniques: int, words: str
) -> None:
    chosen = dataclasses.replace(advice.chosen, metrics=with_loss(advice.chosen.metrics, 0.0))
    metrics = with_loss(changed(chosen.metrics, **factors), loss_pct)
    other = dataclasses.replace(chosen, metrics=metrics, techniques=chosen.techniques + chosen.techniques[:techniques])
    assert rank_words(chosen, other, advice.request, advice.budget_gib) == words

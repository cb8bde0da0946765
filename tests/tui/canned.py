"""A client whose answers are canned: nothing in them was predicted, so that frames stay the same."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from advisor.estimate.uncertainty.probability import probability_of_meeting
from advisor.planning.advice import Advice, Candidate, Status
from advisor.planning.alternatives import Alternative, Feasibility
from advisor.planning.violations import bounds
from advisor.profiles.request import Limits
from advisor.quantities.limits import METRIC_OF
from advisor.sensitivity.counterfactual import Change, ChangeKind, CounterfactualOutcome
from advisor.sensitivity.findings import Finding
from advisor.sensitivity.marginal_gain import Gain
from advisor.sensitivity.marginal_gain import MetricChange as Moved
from advisor.tui.form.values import FormValues
from advisor.tui.workers.planning_client import Planned, PlanningClient, ThisMachine
from tests.rendering.text.test_text import FITS, NOTHING_FITS

QUESTION = FormValues({"model": "canned/llama-8b", "hardware": "canned-24g", "ttft_ms": "0.5s", "tpot_ms": "20", "memory_gib": "20"})
IMPOSSIBLE = QUESTION.with_text("tpot_ms", "10")


class CannedClient(PlanningClient):
    """Answers `QUESTION` with three plans, of which one misses a limit, and `IMPOSSIBLE` with two that miss."""

    def answer(self, values: FormValues, abandoned: Callable[[], bool] = lambda: False) -> Planned | None:
        advice = _with_chances(NOTHING_FITS if values.text("tpot_ms") == "10" else FITS)
        return Planned(values, advice, tuple(map(_alternative, advice.ranked)), 20.0, False)

    def preview(self, values: FormValues) -> Planned | None:
        return None

    def advice_for(self, planned: Planned, plan: str, abandoned: Callable[[], bool] = lambda: False) -> Advice | None:
        chosen = next(alternative.candidate for alternative in planned.alternatives if alternative.id == plan)
        return replace(planned.advice, chosen=chosen)

    def simulated(self, planned: Planned, plan: str, abandoned: Callable[[], bool] = lambda: False) -> Candidate | None:
        return next(alternative.candidate for alternative in planned.alternatives if alternative.id == plan)

    def findings(
        self, planned: Planned, advice: Advice, topics: Sequence[str], abandoned: Callable[[], bool] = lambda: False
    ) -> Iterator[Finding]:
        """A gain for the first limit and a change for `kv-int8`; no finding for any other topic."""
        for topic in topics:
            if topic == topics[0] and topic in Limits.model_fields:
                yield Finding(topic, _gain(advice, topic))
            if topic == "kv-int8":
                yield Finding(topic, _change(advice))
            yield Finding(topic, None)

    def this_machine(self) -> ThisMachine:
        return ThisMachine("canned-cpu", "Canned CPU, 64.0 GiB")


def _with_chances(advice: Advice) -> Advice:
    ranked = tuple(replace(candidate, probabilities=_chances(candidate, advice.request.limits)) for candidate in advice.ranked)
    chosen = next(candidate for candidate in ranked if candidate.id == advice.chosen.id)
    return replace(advice, ranked=ranked, chosen=chosen)


def _chances(candidate: Candidate, limits: Limits) -> tuple[tuple[str, float], ...]:
    bounded = ((limit, bound, METRIC_OF[limit]) for limit, bound in bounds(limits, 20.0).items())
    return tuple(
        (limit, probability_of_meeting(value, bound, higher_is_better=metric.higher_is_better))
        for limit, bound, metric in bounded
        if (value := getattr(candidate.metrics, metric.name)) is not None
    )


def _gain(advice: Advice, limit: str) -> Gain:
    before, after = advice.ranked[:2]
    assert before.metrics.tpot_ms_p95 is not None
    assert after.metrics.tpot_ms_p95 is not None
    return Gain(
        limit=limit,
        bound=1.0,
        step=0.1,
        loosened_to=1.1,
        request=advice.request,
        chosen=after,
        changes=(Moved("tpot_ms_mean", before.metrics.tpot_ms_p95, after.metrics.tpot_ms_p95),),
        probability=(before.probability, after.probability),
        changes_plan=True,
    )


def _change(advice: Advice) -> Change:
    return Change(
        kind=ChangeKind.LIMIT,
        name="quality_loss_pct",
        before=1.0,
        after=1.31,
        outcome=CounterfactualOutcome.CHOSEN,
        candidate=advice.ranked[1],
        request=advice.request,
    )


def _alternative(candidate: object) -> Alternative:
    assert isinstance(candidate, Candidate)
    feasibility = Feasibility.INFEASIBLE if candidate.status is Status.INFEASIBLE else Feasibility.FRONTIER
    return Alternative(candidate, feasibility, True)

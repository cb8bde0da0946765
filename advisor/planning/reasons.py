"""Why each technique is in the plan or not, with metrics predicted with and without it."""

from collections.abc import Iterator

from advisor.backends.deployment import Deployment, baseline
from advisor.backends.technique import Technique, explanation
from advisor.backends.technique_names import settings_of
from advisor.backends.techniques import TECHNIQUES
from advisor.planning.advice import Candidate, Reason, TechniqueState, Violation
from advisor.planning.candidates import best_of
from advisor.planning.planner import Planner
from advisor.planning.rank_reason import rank_words
from advisor.planning.search import apply_on_paper
from advisor.planning.violations import bound_words
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Request
from advisor.quantities.formatting import number, scale
from advisor.quantities.limits import METRIC_OF
from advisor.quantities.metrics import METRICS

EXPLAINED_METRICS = ("tpot_ms_mean", "ttft_ms_mean", "throughput_tok_s", "request_rate_per_s", "peak_memory_gib", "quality_loss_pct")
"""Metrics whose change a reason states."""
NOTICEABLE = 0.01
"""Relative change from which a metric counts as changed."""


def reasons(planner: Planner, chosen: Candidate, request: Request) -> Iterator[Reason]:
    """Why each technique is in the chosen plan or not, in the order of `TECHNIQUES`."""
    return (reason_for(planner, chosen, kind, request) for kind in TECHNIQUES)


def reason_for(planner: Planner, chosen: Candidate, kind: type[Technique], request: Request) -> Reason:
    """Why one technique is in the chosen plan or not."""
    in_plan = next((technique for technique in chosen.techniques if technique.name == kind.name), None)
    if in_plan is not None:
        return _chosen(planner, chosen, in_plan, request)
    if kind.name in request.forbid:
        return Reason(kind.name, TechniqueState.REJECTED, "Forbidden by the request.", sources=kind.sources)
    return _rejected(planner, chosen, kind, request)


def _chosen(planner: Planner, chosen: Candidate, technique: Technique, request: Request) -> Reason:
    """The reason for a technique of the plan: which limit the plan without it violates, or which metrics change."""
    rest = tuple(other for other in chosen.techniques if other is not technique)
    without = apply_on_paper(rest, baseline_of(chosen.deployment), request)
    if isinstance(without, str):
        why = f"{explanation(technique).does} The plan needs it: {without[0].lower()}{without[1:]}"
        return Reason(technique.name, TechniqueState.CHOSEN, why, sources=technique.sources)
    before = planner.simulate(without, request)
    avoided = _new_violations(chosen, before)
    why = changes(before.metrics, chosen.metrics) + "." + _measured_on(planner, technique, chosen.deployment, request)
    if avoided:
        why = f"{_without_it(avoided[0], request)}; {why}"
    elif request.requires(technique.name):
        why = f"Required by the request; {why}"
    effect = effects(before.metrics, chosen.metrics)
    return Reason(technique.name, TechniqueState.CHOSEN, why[0].upper() + why[1:], effect=effect, sources=technique.sources)


def _rejected(planner: Planner, chosen: Candidate, kind: type[Technique], request: Request) -> Reason:
    """The reason for a technique outside the plan: its refusal, the limit that the plan with it violates, or the metrics that change."""
    best = best_stack_with(planner, chosen.techniques, baseline_of(chosen.deployment), kind, request)
    if isinstance(best, str):
        return Reason(kind.name, TechniqueState.NOT_APPLICABLE, best, sources=kind.sources)
    effect = effects(chosen.metrics, best.metrics)
    violated = _new_violations(chosen, best)
    measured_on = _measured_on(planner, kind(), best.deployment, request)
    if violated:
        first, metric = violated[0], METRIC_OF[violated[0].limit]
        low, high = _figure(first.predicted.low), _figure(first.predicted.high)
        predicted = f"{metric.phrase} {_figure(first.predicted.value)} [{low}, {high}] {metric.unit}"
        why = f"{predicted[0].upper()}{predicted[1:]} is {_side(first.limit)} {bound_words(first, request.limits)}."
        why += measured_on if first.limit == "quality_loss_pct" else ""
        return Reason(kind.name, TechniqueState.REJECTED, why, ((first.limit, first.predicted.value),), effect, kind.sources)
    replaced = next((other.name for other in chosen.techniques if other.slot is kind.slot), None)
    how = f"Instead of {replaced}: " if replaced else "Added to the plan: "
    rank = rank_words(chosen, best, request, planner.budget_gib(request))
    why = f"{how}{changes(chosen.metrics, best.metrics)}; {rank}.{measured_on}"
    # No limit on another metric admits a stack that misses one already.
    admitting = () if best.violations else _limits_that_admit(chosen.metrics, best.metrics)
    return Reason(kind.name, TechniqueState.REJECTED, why, admitting, effect, kind.sources)


def _new_violations(before: Candidate, after: Candidate) -> list[Violation]:
    """The limits that only the second candidate violates."""
    violated = {violation.limit for violation in before.violations}
    return [violation for violation in after.violations if violation.limit not in violated]


def _without_it(violation: Violation, request: Request) -> str:
    metric = METRIC_OF[violation.limit]
    bound = bound_words(violation, request.limits)
    return f"Without it {metric.phrase} would be {_figure(violation.predicted.value)} {metric.unit}, {_side(violation.limit)} {bound}"


def _measured_on(planner: Planner, technique: Technique, deployment: Deployment, request: Request) -> str:
    """A sentence with the quality metrics or tasks of the published loss; empty for a technique without loss."""
    tasks = technique.quality(deployment, planner.evidence, request).tasks
    return f" Quality metric: {', '.join(tasks)}." if tasks else ""


def best_stack_with(
    planner: Planner, techniques: tuple[Technique, ...], start: Deployment, kind: type[Technique], request: Request
) -> Candidate | str:  # fmt: skip
    """The best stack of these techniques with `kind`, in any of its settings, in its slot; a reason where each is refused."""
    refusals, candidates = [], []
    for technique in settings_of(kind, request):
        others = tuple(other for other in techniques if other.slot is not technique.slot)
        stack = apply_on_paper((*others, technique), start, request)
        if isinstance(stack, str):
            refusals.append(stack)
        else:
            candidates.append(planner.simulate(stack, request))
    return best_of(candidates, request, planner.budget_gib(request)) if candidates else refusals[0]


def effects(before: Metrics, after: Metrics) -> tuple[tuple[str, float], ...]:
    """The absolute change of each explained metric that changes noticeably."""
    return tuple((metric, new - old) for metric, old, new in _changed(before, after))


def changes(before: Metrics, after: Metrics) -> str:
    """The metrics that change noticeably, each with both figures, as in `TPOT 30 -> 35.1 ms`."""
    parts = []
    for metric, old, new in _changed(before, after):
        unit = scale(METRICS[metric].unit, (old, new))
        parts.append(f"{METRICS[metric].phrase} {_figure(old * unit.factor)} -> {_figure(new * unit.factor)} {unit.unit}")
    return ", ".join(parts) or "no metric changes by 1 % or more"


def _changed(before: Metrics, after: Metrics) -> Iterator[tuple[str, float, float]]:
    """Each explained metric that changes noticeably, with its value before and after."""
    for metric in EXPLAINED_METRICS:
        old, new = getattr(before, metric), getattr(after, metric)
        if old is not None and new is not None and changed_noticeably(old.value, new.value):
            yield metric, old.value, new.value


def changed_noticeably(old: float, new: float) -> bool:
    """Whether a metric changes by more than `NOTICEABLE`."""
    return abs(new - old) > NOTICEABLE * max(abs(old), abs(new), 1e-9)


def _limits_that_admit(chosen: Metrics, other: Metrics) -> tuple[tuple[str, float], ...]:
    """For each metric in which the other stack is better, the limit that it meets and the chosen one violates."""
    admitting = []
    for limit, metric in METRIC_OF.items():
        own, others = getattr(chosen, metric.name), getattr(other, metric.name)
        if own is None or others is None or not changed_noticeably(own.value, others.value):
            continue
        if (others.value > own.value) == metric.higher_is_better:
            admitting.append((limit, others.value))
    return tuple(admitting)


def _side(limit: str) -> str:
    """On which side of the limit a violating value is."""
    return "under" if METRIC_OF[limit].higher_is_better else "over"


def _figure(value: float) -> str:
    return number(value, trim=True)


def baseline_of(deployment: Deployment) -> Deployment:
    """The unmodified model in the parallel layout and with the sequences of a deployment."""
    return baseline(
        deployment.model,
        max_sequences=deployment.batching.max_sequences,
        parallel=deployment.parallel,
        engine=deployment.engine,
        dtypes=deployment.device_dtypes,
    )

"""The plans to try after a run: the best other plans of its question, predicted with what the run measured."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from advisor.feedback.compare import ComparedMetric, compare
from advisor.feedback.refit import RefitResult, refit_profile
from advisor.planfile.deployment import techniques_of
from advisor.planfile.file import PlanFile, request_of
from advisor.planfile.store import read_plan
from advisor.planning.advice import Candidate, Status
from advisor.planning.advise import advise
from advisor.planning.target import Target, planner_for, target_of_profile
from advisor.profiles.engines import load_engine
from advisor.profiles.errors import AdvisorError
from advisor.profiles.model_store import find_model
from advisor.profiles.run import Run, RungStatus, read_run
from advisor.profiles.store import load_profile
from advisor.quantities.formatting import three_digits
from advisor.quantities.limits import LIMIT_OF
from advisor.quantities.metrics import METRICS
from advisor.running.preflight import PLAN_FILE, target_of_plan

MAX_CANDIDATES = 2


class ProfileSource(StrEnum):
    """What the next plans are predicted with."""

    AS_PLANNED = "the plan's own profile or data sheet"
    REFITTED = "the plan's profile, refitted with the run and not stored"
    STORED = "the plan's profile, already refitted with the run"


@dataclass(frozen=True, slots=True, kw_only=True)
class NextPlans:
    """The best plans of a run's question other than the plan that was run; empty where no other plan meets the limits."""

    candidates: tuple[Candidate, ...]
    profile_source: ProfileSource
    tightened: tuple[tuple[str, float], ...]
    """Limits (field of `Limits`, bound) that replace those of the question, because the run was worse than predicted by that much."""


def next_plans(folder: Path) -> NextPlans:
    """Plan again after a run: with the refitted profile where that reduces the error, else with each missed limit tightened.

    A missed limit is multiplied by predicted over measured.

    Raises `AdvisorError`: those of `read_run` and `read_plan`, and those of planning.
    """
    run, plan = read_run(folder), read_plan(folder / PLAN_FILE)
    if not _has_ended(run):
        return NextPlans(candidates=(), profile_source=ProfileSource.AS_PLANNED, tightened=())
    if _is_in_stored_profile(run, plan):
        return NextPlans(candidates=_best_others(plan, target_of_plan(plan), {}), profile_source=ProfileSource.STORED, tightened=())
    refitted = _helpful_refit(folder)
    if refitted is not None:
        return NextPlans(
            candidates=_best_others(plan, target_of_profile(refitted.profile), {}), profile_source=ProfileSource.REFITTED, tightened=()
        )
    tightened = dict(_tightened_limit(metric) for metric in compare(run).limits_missed if _is_optimistic(metric))
    return NextPlans(
        candidates=_best_others(plan, target_of_plan(plan), tightened),
        profile_source=ProfileSource.AS_PLANNED,
        tightened=tuple(tightened.items()),
    )


def _has_ended(run: Run) -> bool:
    """Whether a rung was measured and the full stack was tried: a run that was stopped earlier is resumed before anything else."""
    statuses = [rung.status for rung in run.rungs]
    return RungStatus.DONE in statuses and statuses[-1] in (RungStatus.DONE, RungStatus.FAILED, RungStatus.OUT_OF_MEMORY)


def _is_in_stored_profile(run: Run, plan: PlanFile) -> bool:
    """Whether the stored profile is already refitted with this run."""
    refit = load_profile(plan.machine.profile).refit if plan.machine.profile else None
    return refit is not None and run.id in refit.runs


def _helpful_refit(folder: Path) -> RefitResult | None:
    """The plan's profile refitted with the run; `None` where it cannot be refitted or where that does not reduce the error."""
    try:
        refitted = refit_profile(folder)
    except AdvisorError as error:
        if error.code != "nothing-to-refit":
            raise
        return None
    return refitted if refitted.helps else None


def _is_optimistic(metric: ComparedMetric) -> bool:
    """Whether the prediction was better than the measured value."""
    if metric.planned is None or metric.measured is None or min(metric.planned.value, metric.measured.value) <= 0:
        return False
    return (metric.measured.value < metric.planned.value) is METRICS[metric.metric].higher_is_better


def _tightened_limit(metric: ComparedMetric) -> tuple[str, float]:
    assert metric.limit is not None
    assert metric.planned is not None
    assert metric.measured is not None
    return LIMIT_OF[metric.metric].name, three_digits(metric.limit * metric.planned.value / metric.measured.value)


def _best_others(plan: PlanFile, target: Target, tightened: dict[str, float]) -> tuple[Candidate, ...]:
    model, request = find_model(plan.model.path or plan.model.name), request_of(plan)
    planner = planner_for(model, target, load_engine(plan.apply.engine.name))
    request = request.model_copy(update={"limits": request.limits.model_copy(update=dict(tightened))})
    feasible = (candidate for candidate in advise(planner, request).ranked if candidate.status is not Status.INFEASIBLE)
    return tuple(candidate for candidate in feasible if candidate.techniques != techniques_of(plan))[:MAX_CANDIDATES]

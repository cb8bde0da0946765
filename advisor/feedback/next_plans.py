"""Which plans to try after a run: the best others of its question, priced with what the run has taught."""

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
    """What they are predicted with."""

    AS_PLANNED = "the profile or data sheet of the plan"
    REFITTED = "the plan's profile as the run refits it; that is not stored"
    STORED = "the plan's profile, which was refitted by the run"


@dataclass(frozen=True, slots=True, kw_only=True)
class NextPlans:
    """The best plans of a run's question that are not the one that was run; none where no other meets it."""

    candidates: tuple[Candidate, ...]
    profile_source: ProfileSource
    tightened: tuple[tuple[str, float], ...]
    """Limits by field name that stand in for the asked ones, since predictions of this run were that much too good."""


def next_plans(folder: Path) -> NextPlans:
    """Plan again after a run: with its refit where that helps, else with limits that it missed tightened by measured over predicted.

    Raises `AdvisorError`: those of `read_run` and `read_plan`, and those of planning.
    """
    run, plan = read_run(folder), read_plan(folder / PLAN_FILE)
    if not _has_ended(run):
        return NextPlans(candidates=(), profile_source=ProfileSource.AS_PLANNED, tightened=())
    if _is_taught(run, plan):
        return NextPlans(candidates=_others(plan, target_of_plan(plan), {}), profile_source=ProfileSource.STORED, tightened=())
    taught = _taught(folder)
    if taught is not None:
        return NextPlans(
            candidates=_others(plan, target_of_profile(taught.profile), {}), profile_source=ProfileSource.REFITTED, tightened=()
        )
    tightened = dict(_tightened(line) for line in compare(run).limits_missed if _too_good(line))
    return NextPlans(
        candidates=_others(plan, target_of_plan(plan), tightened),
        profile_source=ProfileSource.AS_PLANNED,
        tightened=tuple(tightened.items()),
    )


def _has_ended(run: Run) -> bool:
    """Whether the full stack was tried: of a run that was stopped before, the rest comes next."""
    statuses = [rung.status for rung in run.rungs]
    return RungStatus.DONE in statuses and statuses[-1] in (RungStatus.DONE, RungStatus.FAILED, RungStatus.OUT_OF_MEMORY)


def _is_taught(run: Run, plan: PlanFile) -> bool:
    """Whether what the run teaches is in the stored profile already."""
    refit = load_profile(plan.machine.profile).refit if plan.machine.profile else None
    return refit is not None and run.id in refit.runs


def _taught(folder: Path) -> RefitResult | None:
    """What the run teaches the profile behind it; `None` where that is nothing, or makes predictions of the run no better."""
    try:
        taught = refit_profile(folder)
    except AdvisorError as error:
        if error.code != "nothing-to-refit":
            raise
        return None
    return taught if taught.helps else None


def _too_good(line: ComparedMetric) -> bool:
    """Whether the limit was missed since the prediction was better than what was measured."""
    if line.predicted is None or line.measured is None or min(line.predicted.value, line.measured.value) <= 0:
        return False
    return (line.measured.value < line.predicted.value) is METRICS[line.metric].higher_is_better


def _tightened(line: ComparedMetric) -> tuple[str, float]:
    assert line.limit is not None
    assert line.predicted is not None
    assert line.measured is not None
    return LIMIT_OF[line.metric].name, three_digits(line.limit * line.predicted.value / line.measured.value)


def _others(plan: PlanFile, target: Target, tightened: dict[str, float]) -> tuple[Candidate, ...]:
    model, request, ran = find_model(plan.model.path or plan.model.name), request_of(plan), techniques_of(plan)
    planner = planner_for(model, target, load_engine(plan.apply.engine.name))
    asked = request.model_copy(update={"limits": request.limits.model_copy(update=dict(tightened))})
    ranked = advise(planner, asked).ranked
    return tuple(one for one in ranked if one.status is not Status.INFEASIBLE and one.techniques != ran)[:MAX_CANDIDATES]

"""Teaches a machine profile from a finished run: two factors, on operators and on overheads, that bring predictions to what was measured.

What was measured for the profile stays as it is; the factors stand beside it, with the runs that they come from, until the machine is
profiled again. They are found by Gauss-Newton on the logarithm of predicted over measured, with a pull towards 1 that outweighs noise and
gives way to a miss that every rung shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from advisor.backends.deployment import baseline
from advisor.backends.measure.ladder import LadderRung
from advisor.planfile.deployment import techniques_of
from advisor.planfile.file import PlanFile, request_of
from advisor.planfile.store import read_plan
from advisor.planning.target import target_of_profile
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.machine import MachineProfile, Refit
from advisor.profiles.metrics import Metrics
from advisor.profiles.model_store import find_model
from advisor.profiles.run import Run, Rung, RungStatus, read_run
from advisor.profiles.store import load_profile
from advisor.running.preflight import PLAN_FILE, predicted_rungs

FITTED_METRICS = ("ttft_ms_mean", "tpot_ms_mean")
"""Throughput follows from the two."""
PULL = 0.03
"""Weight of the factors' own logarithms beside one metric of one rung."""
ROUNDS = 8
STEP = 0.02
"""Of the logarithms, for derivatives and as the change that ends the search."""
FURTHEST = log(4.0)

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RefitResult:
    """The profile with its factors, and what they do to the run that taught them."""

    profile: MachineProfile
    before_pct: float
    """Median absolute error of TTFT and TPOT over the rungs, as predicted without the new factors."""
    after_pct: float
    rungs: int

    @property
    def helps(self) -> bool:
        """Whether predictions of that run come nearer: noise about right predictions teaches nothing."""
        return self.after_pct < self.before_pct


def refit_profile(folder: Path) -> RefitResult:
    """Teach the profile that a run's plan was made with; nothing is stored.

    Raises `AdvisorError`: those of `read_run` and `read_plan`, and `nothing-to-refit` where the run has no profile behind it or an earlier
    one, is of another plan, or measured nothing.
    """
    folder = folder if folder.is_dir() else folder.parent
    run, plan = read_run(folder), read_plan(folder / PLAN_FILE)
    if plan.machine.profile is None:
        raise _nothing("the plan was made from a data sheet", "advisor profile run   measures this machine; then plan and apply again")
    if plan.id != run.plan_id:
        raise _nothing(f"{folder / PLAN_FILE} is {plan.id}, the run is of {run.plan_id}", "advisor apply   writes both")
    profile = load_profile(plan.machine.profile)
    if run.environment.profiled_pace_s not in (None, profile.pace_s):
        raise _nothing(f"the profile {profile.name} was measured again since", "advisor apply plan.yaml --out DIR   runs the plan anew")
    return refit(plan, run, profile)


def refit(plan: PlanFile, run: Run, profile: MachineProfile) -> RefitResult:
    """The factors that bring this profile's predictions of a run to what was measured. Raises `AdvisorError` `nothing-to-refit`."""
    done = [rung for rung in run.rungs if rung.status is RungStatus.DONE and rung.measured is not None]
    if not done:
        raise _nothing("no rung of the run was measured", "advisor apply plan.yaml   goes on with a run that was stopped")
    start = profile.refit or Refit(operators=1.0, overheads=1.0, runs=())

    model, techniques, request = find_model(plan.model.path or plan.model.name), techniques_of(plan), request_of(plan)
    first = baseline(model, max_sequences=plan.apply.batching.max_num_seqs)

    def misses(logs: Vector) -> Vector:
        place = target_of_profile(with_factors(profile, start, logs))
        return np.array(_misses(predicted_rungs(place, first, techniques, request, run.recipe), done))

    before = misses(np.zeros(2))
    found = least(misses)
    taught = with_factors(profile, start.model_copy(update={"runs": _with(start.runs, run.id)}), found)
    return RefitResult(taught, _percent(before), _percent(misses(found)), len(done))


def least(misses: Callable[[Vector], Vector]) -> Vector:
    """The logarithms of both factors with the least squared misses and pull, from zero on."""
    at = np.zeros(2)
    for _ in range(ROUNDS):
        here = misses(at)
        slopes = np.column_stack([(misses(at + STEP * unit) - here) / STEP for unit in np.eye(2)])
        change = np.linalg.solve(slopes.T @ slopes + PULL * np.eye(2), -(slopes.T @ here + PULL * at))
        at = np.clip(at + change, -FURTHEST, FURTHEST)
        if np.abs(change).max() < STEP / 4:
            break
    return at


def with_factors(profile: MachineProfile, start: Refit, logs: Vector) -> MachineProfile:
    """The profile with `start` times the factors of these logarithms."""
    operators, overheads = (round(old * exp(each), 4) for old, each in zip((start.operators, start.overheads), logs, strict=True))
    return profile.model_copy(update={"refit": Refit(operators=operators, overheads=overheads, runs=start.runs)})


def _misses(steps: Sequence[LadderRung], done: list[Rung]) -> list[float]:
    """Logarithm of predicted over measured, of every metric that teaches, of every rung that was measured."""
    by_name = {step.name: step.predicted for step in steps}
    return [miss for rung in done if rung.measured for miss in _of_rung(by_name[rung.name], rung.measured)]


def _of_rung(predicted: Metrics, measured: Metrics) -> list[float]:
    pairs = [(getattr(predicted, name), getattr(measured, name)) for name in FITTED_METRICS]
    return [log(ours.value / theirs.value) for ours, theirs in pairs if ours is not None and theirs is not None]


def _percent(misses: Vector) -> float:
    return 100 * median(abs(exp(miss) - 1) for miss in misses.tolist())


def _with(runs: tuple[str, ...], id: str) -> tuple[str, ...]:
    return (*(known for known in runs if known != id), id)


def _nothing(why: str, help: str) -> AdvisorError:
    return AdvisorError("nothing-to-refit", f"there is nothing to refit: {why}", exit_code=ExitCode.MISSING, help=(help,))

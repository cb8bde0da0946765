"""Refits a machine profile with a finished run: one factor on the times of operators and one on overheads.

The profile's measurements do not change; the factors are stored with them, with the ids of the runs they were fitted to, until the machine
is profiled again. They minimise the squared logarithms of predicted over measured (Gauss-Newton) plus a ridge penalty that draws both
factors to 1, so that noise in one value moves them little and an error common to all rungs moves them fully.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from advisor.backends.deployment import baseline
from advisor.backends.measure.ladder_rungs import LadderRung
from advisor.planfile.deployment import techniques_of
from advisor.planfile.file import PlanFile, request_of
from advisor.planfile.store import read_plan
from advisor.planning.target import planner_for, target_of_profile
from advisor.profiles.engines import load_engine
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import is_folder
from advisor.profiles.machine import MachineProfile, Refit
from advisor.profiles.metrics import Metrics
from advisor.profiles.model_store import find_model
from advisor.profiles.run import Run, Rung, RungStatus, read_run
from advisor.profiles.store import load_profile
from advisor.running.preflight import PLAN_FILE, predicted_rungs

FITTED_METRICS = ("ttft_ms_mean", "tpot_ms_mean")
"""Throughput follows from these two."""
RIDGE = 0.03
"""Weight of the penalty on the squared logarithms of the factors; one metric of one rung has weight 1."""
MAX_ITERATIONS = 8
STEP = 0.02
"""Step of the finite differences, in the logarithm of a factor; the search ends at changes under a quarter of it."""
MAX_LOG_FACTOR = log(4.0)

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RefitResult:
    """A profile with its factors, and the error of the run's predictions before and after."""

    profile: MachineProfile
    before_pct: float
    """Median absolute error of mean TTFT and TPOT over the rungs, percent, as predicted without the new factors."""
    after_pct: float
    """The same with the new factors."""
    rungs: int
    """Number of measured rungs."""

    @property
    def helps(self) -> bool:
        """Whether the factors reduce the error."""
        return self.after_pct < self.before_pct


def refit_profile(folder: Path) -> RefitResult:
    """Refit the profile that a run's plan was made with; nothing is stored. `folder` is the run's folder or a file in it.

    Raises `AdvisorError`: those of `read_run` and `read_plan`, and `nothing-to-refit` where the plan was made without a profile, the
    profile was measured again since the run, the run is of another plan, or no rung was measured.
    """
    folder = folder if is_folder(folder) else folder.parent
    run, plan = read_run(folder), read_plan(folder / PLAN_FILE)
    if plan.machine.profile is None:
        raise _nothing_to_refit(
            "the plan was made from a data sheet", "advisor profile run   measures this machine; then plan and apply again"
        )
    if plan.id != run.plan_id:
        raise _nothing_to_refit(f"{folder / PLAN_FILE} is {plan.id}, the run is of {run.plan_id}", "advisor apply   writes both")
    profile = load_profile(plan.machine.profile)
    if run.environment.profiled_pace_s not in (None, profile.pace_s):
        raise _nothing_to_refit(
            f"the profile {profile.name} was measured again since", "advisor apply plan.yaml --out DIR   runs the plan again"
        )
    return refit(plan, run, profile)


def refit(plan: PlanFile, run: Run, profile: MachineProfile) -> RefitResult:
    """Fit the two factors of `profile` to a run of `plan`. Raises `AdvisorError` `nothing-to-refit` where no rung was measured."""
    done = [rung for rung in run.rungs if rung.status is RungStatus.DONE and rung.measured is not None]
    if not done:
        raise _nothing_to_refit("no rung of the run was measured", "advisor apply plan.yaml --out DIR   resumes a run that was stopped")
    start = profile.refit or Refit(operators=1.0, overheads=1.0, runs=())

    model, techniques, request = find_model(plan.model.path or plan.model.name), techniques_of(plan), request_of(plan)
    dtypes = planner_for(model, target_of_profile(profile), load_engine(plan.apply.engine.name)).dtypes
    first = baseline(model, max_sequences=plan.apply.batching.max_num_seqs, dtypes=dtypes)

    def log_errors(logs: Vector) -> Vector:
        target = target_of_profile(with_factors(profile, start, logs))
        return np.array(_log_errors(predicted_rungs(target, first, techniques, request, run.recipe), done))

    before = log_errors(np.zeros(2))
    logs = minimise(log_errors)
    refitted = with_factors(profile, start.model_copy(update={"runs": _runs_with(start.runs, run.id)}), logs)
    return RefitResult(refitted, _median_pct(before), _median_pct(log_errors(logs)), len(done))


def minimise(log_errors: Callable[[Vector], Vector]) -> Vector:
    """The logarithms of both factors that minimise the penalised squares of `log_errors`, by Gauss-Newton from zero."""
    logs = np.zeros(2)
    for _ in range(MAX_ITERATIONS):
        errors = log_errors(logs)
        jacobian = np.column_stack([(log_errors(logs + STEP * unit) - errors) / STEP for unit in np.eye(2)])
        change = np.linalg.solve(jacobian.T @ jacobian + RIDGE * np.eye(2), -(jacobian.T @ errors + RIDGE * logs))
        logs = np.clip(logs + change, -MAX_LOG_FACTOR, MAX_LOG_FACTOR)
        if np.abs(change).max() < STEP / 4:
            break
    return logs


def with_factors(profile: MachineProfile, start: Refit, logs: Vector) -> MachineProfile:
    """The profile with the factors of `start` multiplied by the exponentials of `logs`."""
    operators, overheads = (round(factor * exp(change), 4) for factor, change in zip((start.operators, start.overheads), logs, strict=True))
    return profile.model_copy(update={"refit": Refit(operators=operators, overheads=overheads, runs=start.runs)})


def _log_errors(rungs: Sequence[LadderRung], done: list[Rung]) -> list[float]:
    """The logarithm of predicted over measured of every fitted metric of every measured rung."""
    by_name = {rung.name: rung.predicted for rung in rungs}
    return [error for rung in done if rung.measured for error in _rung_log_errors(by_name[rung.name], rung.measured)]


def _rung_log_errors(predicted: Metrics, measured: Metrics) -> list[float]:
    pairs = [(getattr(predicted, name), getattr(measured, name)) for name in FITTED_METRICS]
    return [log(ours.value / theirs.value) for ours, theirs in pairs if ours is not None and theirs is not None]


def _median_pct(log_errors: Vector) -> float:
    return 100 * median(abs(exp(error) - 1) for error in log_errors.tolist())


def _runs_with(runs: tuple[str, ...], id: str) -> tuple[str, ...]:
    return (*(run for run in runs if run != id), id)


def _nothing_to_refit(why: str, help: str) -> AdvisorError:
    return AdvisorError("nothing-to-refit", f"there is nothing to refit: {why}", exit_code=ExitCode.MISSING, help=(help,))

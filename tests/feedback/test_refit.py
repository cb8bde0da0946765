"""A refit corrects a profile by two factors that reduce its errors on a run; a run that cannot be used is an error."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from advisor.backends.deployment import baseline
from advisor.backends.detection.detect import detect
from advisor.feedback.refit import Vector, minimise, refit, refit_profile
from advisor.planfile.deployment import techniques_of
from advisor.planfile.file import PlanFile, request_of
from advisor.planfile.from_advice import plan_of
from advisor.planfile.store import save_plan
from advisor.planning.question import PlanQuestion
from advisor.planning.target import target_of_profile
from advisor.profiles.errors import AdvisorError
from advisor.profiles.machine import MachineProfile, Refit
from advisor.profiles.metrics import Metrics
from advisor.profiles.model_store import find_model
from advisor.profiles.run import Run, Rung, RungStatus
from advisor.profiles.store import load_profile, save_profile
from advisor.running.apply import environment_of
from advisor.running.preflight import PLAN_FILE, predicted_rungs, recipe_of, target_of_plan
from advisor.service import plan as advise
from tests.paths import ROOT

TRUE = Refit(operators=1.3, overheads=0.7, runs=("run-true",))


@pytest.fixture
def machine_profile() -> MachineProfile:
    return load_profile(str(ROOT / "tests/canned/profile.yaml"))


@pytest.fixture
def planned(machine_profile: MachineProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanFile:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    save_profile(machine_profile)
    question = PlanQuestion(model="demo", profile=machine_profile.name, concurrency=4, prompt_tokens=128, output_tokens=32)
    return plan_of(advise(question))


@pytest.fixture
def ran(planned: PlanFile, machine_profile: MachineProfile) -> Callable[[MachineProfile], Run]:
    """A run of the plan on a machine that does exactly what a profile predicts."""

    def make(as_profiled: MachineProfile) -> Run:
        request, recipe = request_of(planned), recipe_of(request_of(planned), quick=True)
        start = baseline(find_model("demo"), max_sequences=planned.apply.batching.max_num_seqs)
        targets = (target_of_plan(planned), target_of_profile(as_profiled))
        predicted_steps, real = (predicted_rungs(target, start, techniques_of(planned), request, recipe) for target in targets)
        rungs = tuple(
            Rung(name=step.name, techniques=(), status=RungStatus.DONE, predicted=step.predicted, measured=measured.predicted)
            for step, measured in zip(predicted_steps, real, strict=True)
        )
        return Run(
            id="run-1", plan_id=planned.id, title=planned.title, model="demo", request=request, recipe=recipe, rungs=rungs,
            environment=environment_of(detect(), machine_profile.name), created="2026-11-22T00:00:00Z",
        )  # fmt: skip

    return make


def test_a_machine_that_differs_by_two_factors_is_fitted_by_them(
    planned: PlanFile, machine_profile: MachineProfile, ran: Callable[[MachineProfile], Run]
) -> None:
    fitted = refit(planned, ran(machine_profile.model_copy(update={"refit": TRUE})), machine_profile)
    assert fitted.profile.refit is not None
    assert fitted.profile.refit.operators == pytest.approx(TRUE.operators, rel=0.12)
    assert fitted.profile.refit.overheads == pytest.approx(TRUE.overheads, rel=0.12)
    assert fitted.after_pct < 0.35 * fitted.before_pct


def test_a_run_as_predicted_is_fitted_by_factors_of_1(
    planned: PlanFile, machine_profile: MachineProfile, ran: Callable[[MachineProfile], Run]
) -> None:
    fitted = refit(planned, ran(machine_profile), machine_profile)
    assert fitted.profile.refit == Refit(operators=1.0, overheads=1.0, runs=("run-1",))
    assert fitted.before_pct == 0.0
    assert not fitted.helps


def test_a_second_refit_starts_at_the_first_and_the_measured_points_stay(
    planned: PlanFile, machine_profile: MachineProfile, ran: Callable[[MachineProfile], Run]
) -> None:
    true = machine_profile.model_copy(update={"refit": TRUE})
    once = refit(planned, ran(true), machine_profile).profile
    twice = refit(planned, ran(true).model_copy(update={"id": "run-2"}), once)
    assert twice.profile.refit is not None
    assert twice.profile.refit.runs == ("run-1", "run-2")
    assert twice.after_pct <= twice.before_pct
    assert (twice.profile.gemm, twice.profile.runtime) == (machine_profile.gemm, machine_profile.runtime)


def test_a_refitted_profile_is_stored_and_read_again(
    planned: PlanFile, machine_profile: MachineProfile, ran: Callable[[MachineProfile], Run], tmp_path: Path
) -> None:
    run = ran(machine_profile.model_copy(update={"refit": TRUE}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(run.model_dump_json())
    save_plan(planned, tmp_path / "out" / PLAN_FILE)
    fitted = refit_profile(tmp_path / "out" / "run.json")
    save_profile(fitted.profile)
    assert load_profile(machine_profile.name).refit == fitted.profile.refit


def test_a_run_without_a_measured_rung_is_an_error(
    planned: PlanFile, machine_profile: MachineProfile, ran: Callable[[MachineProfile], Run]
) -> None:
    run = ran(machine_profile)
    stopped = run.model_copy(update={"rungs": tuple(rung.model_copy(update={"status": RungStatus.CANCELLED}) for rung in run.rungs)})
    with pytest.raises(AdvisorError, match="no rung of the run was measured"):
        refit(planned, stopped, machine_profile)


def test_a_run_in_the_folder_of_another_plan_is_refused(
    planned: PlanFile, machine_profile: MachineProfile, ran: Callable[[MachineProfile], Run], tmp_path: Path
) -> None:
    record = json.loads(ran(machine_profile).model_dump_json()) | {"plan_id": "plan-other"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    save_plan(planned, tmp_path / PLAN_FILE)
    with pytest.raises(AdvisorError, match="the run is of plan-other"):
        refit_profile(tmp_path)


def test_a_profile_that_was_measured_again_since_is_refused(
    planned: PlanFile, machine_profile: MachineProfile, ran: Callable[[MachineProfile], Run], tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(ran(machine_profile).model_dump_json())
    save_plan(planned, tmp_path / PLAN_FILE)
    save_profile(machine_profile.model_copy(update={"pace_s": 1e-5}))
    with pytest.raises(AdvisorError, match="was measured again since"):
        refit_profile(tmp_path)


def test_noise_in_a_single_value_moves_the_factors_less_than_errors_of_all() -> None:
    def misses(at: Vector, miss: Vector) -> Vector:
        slopes: Vector = np.array([[1.0, 0.2], [0.3, 0.9], [1.0, 0.1], [0.2, 1.0]])
        result: Vector = miss + slopes @ at
        return result

    single = minimise(lambda at: misses(at, np.array([0.4, 0.0, 0.0, 0.0])))
    every = minimise(lambda at: misses(at, np.array([0.4, 0.4, 0.4, 0.4])))
    assert np.abs(single).max() < np.abs(every).max() < 0.5


def test_metrics_that_were_not_measured_are_not_fitted(
    planned: PlanFile, machine_profile: MachineProfile, ran: Callable[[MachineProfile], Run]
) -> None:
    run = ran(machine_profile)
    empty = run.model_copy(update={"rungs": (run.rungs[0], *(rung.model_copy(update={"measured": Metrics()}) for rung in run.rungs[1:]))})
    assert refit(planned, empty, machine_profile).before_pct == 0.0

"""After a run: other plans of its question, predicted with the refitted profile, and a command that makes each."""

import dataclasses
from pathlib import Path

import pytest

from advisor.backends.deployment import baseline
from advisor.backends.detection.detect import detect
from advisor.feedback.next_plans import MAX_CANDIDATES, ProfileSource, next_plans
from advisor.planfile.deployment import techniques_of
from advisor.planfile.file import PlanFile, request_of
from advisor.planfile.from_advice import plan_of
from advisor.planfile.store import save_plan
from advisor.planning.question import PlanQuestion
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Limits
from advisor.profiles.run import RUN_FILE, Run, Rung, RungStatus
from advisor.profiles.store import load_profile, save_profile
from advisor.rendering.text.next_plans import next_plan_lines
from advisor.rendering.text.style import Look
from advisor.running.apply import environment_of
from advisor.running.preflight import PLAN_FILE, predicted_rungs, recipe_of, target_of_plan
from advisor.service import plan as advise
from advisor.tui.workers.machine_tasks import MachineTasks
from tests.cli.questions import typed_question
from tests.paths import ROOT

QUESTION = PlanQuestion(model="demo", profile="none", concurrency=16, prompt_tokens=128, output_tokens=32, use_case="chat")
SLOWER = 1.6


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def ran(question: PlanQuestion, folder: Path, *, times: float, last: RungStatus = RungStatus.DONE) -> PlanFile:
    """A folder with a plan and its run, in which every time was measured as `times` the predicted one."""
    planned = plan_of(advise(question))
    request, recipe = request_of(planned), recipe_of(request_of(planned), quick=True)
    start = baseline(find_model("demo"), max_sequences=planned.apply.batching.max_num_seqs)
    steps = predicted_rungs(target_of_plan(planned), start, techniques_of(planned), request, recipe)
    rungs = [
        Rung(name=step.name, techniques=(), status=RungStatus.DONE, predicted=step.predicted, measured=slower(step.predicted, times))
        for step in steps
    ]
    rungs[-1] = rungs[-1].model_copy(update={"status": last})
    run = Run(
        id="run-1", plan_id=planned.id, title=planned.title, model="demo", request=request, recipe=recipe, rungs=tuple(rungs),
        environment=environment_of(detect(), planned.machine.profile), created="2026-11-22T00:00:00Z",
    )  # fmt: skip
    folder.mkdir()
    (folder / RUN_FILE).write_text(run.model_dump_json())
    save_plan(planned, folder / PLAN_FILE)
    return planned


def slower(metrics: Metrics, times: float) -> Metrics:
    def scaled(value: Value) -> Value:
        return value.model_copy(update={field: times * getattr(value, field) for field in ("value", "low", "high")})

    return metrics.model_copy(update={name: scaled(value) for name, value in metrics.present().items() if "_ms_" in name})


def with_a_profile() -> PlanQuestion:
    profile = load_profile(ROOT / "tests/canned/profile.yaml")
    save_profile(profile)
    return dataclasses.replace(QUESTION, profile=profile.name)


def test_the_next_plans_of_a_profiled_run_are_priced_with_its_refit_and_are_not_the_one_that_was_run(tmp_path: Path) -> None:
    planned = ran(with_a_profile(), tmp_path / "run", times=SLOWER)
    following = next_plans(tmp_path / "run")
    assert following.profile_source is ProfileSource.REFITTED
    assert following.tightened == ()
    assert 0 < len(following.candidates) <= MAX_CANDIDATES
    before = {candidate.techniques: candidate.metrics.tpot_ms_mean for candidate in advise(with_a_profile()).ranked}
    for candidate in following.candidates:
        assert candidate.techniques != techniques_of(planned)
        earlier, now = before.get(candidate.techniques), candidate.metrics.tpot_ms_mean
        assert now is not None
        assert earlier is None or now.value > earlier.value


def test_without_a_profile_a_missed_limit_is_tightened_by_measured_over_predicted(tmp_path: Path) -> None:
    first = advise(QUESTION).chosen.metrics.tpot_ms_p95
    assert first is not None
    limit = first.value * 1.2
    question = dataclasses.replace(QUESTION, limits=Limits(tpot_ms_p95=limit))
    predicted = advise(question).chosen.metrics.tpot_ms_p95
    assert predicted is not None
    slower_than_predicted = 3 * limit / predicted.value  # the limit is missed, whichever plan was chosen
    ran(question, tmp_path / "run", times=slower_than_predicted)
    following = next_plans(tmp_path / "run")
    assert following.profile_source is ProfileSource.AS_PLANNED
    assert dict(following.tightened)["tpot_ms_p95"] == pytest.approx(limit / slower_than_predicted, rel=0.01)
    for candidate in following.candidates:
        assert candidate.metrics.tpot_ms_p95 is not None
        assert candidate.metrics.tpot_ms_p95.value <= limit / slower_than_predicted * 1.01


@pytest.mark.parametrize("last", [RungStatus.CANCELLED, RungStatus.NOT_RUN])
def test_a_run_that_was_stopped_has_no_next_plan_yet(tmp_path: Path, last: RungStatus) -> None:
    ran(with_a_profile(), tmp_path / "run", times=SLOWER, last=last)
    assert next_plans(tmp_path / "run").candidates == ()
    assert next_plan_lines(next_plans(tmp_path / "run"), (), Look(80)) == []


def test_the_command_of_a_next_plan_leads_to_it(tmp_path: Path) -> None:
    ran(with_a_profile(), tmp_path / "run", times=SLOWER)
    tasks = MachineTasks()
    following, words = tasks.next_plans(tmp_path / "run")
    tasks.store(tasks.refit(tmp_path / "run"))
    for candidate in following.candidates:
        chosen = advise(typed_question(*words), choose=candidate.id).chosen
        assert (chosen.techniques, chosen.metrics) == (candidate.techniques, candidate.metrics)
        text = " ".join(Look(80).finish(next_plan_lines(following, words, Look(80))).split())
        assert f"--choose={candidate.id}" in text
    stored, _ = tasks.next_plans(tmp_path / "run")
    assert (stored.profile_source, stored.candidates) == (ProfileSource.STORED, following.candidates)


@pytest.mark.parametrize("width", [20, 60, 80, 160])
def test_next_plans_fit_the_width(tmp_path: Path, width: int) -> None:
    ran(with_a_profile(), tmp_path / "run", times=SLOWER)
    following, words = MachineTasks().next_plans(tmp_path / "run")
    text = Look(width).finish(next_plan_lines(following, words, Look(width)))
    assert max(map(len, text.splitlines())) <= width
    assert "f stores that" in " ".join(text.split())

"""The review before a plan is applied: nothing is done, every effect is shown, and a run that was stopped is resumed."""

import dataclasses
from pathlib import Path

import pytest

from advisor.backends.measure.ladder_rungs import REFERENCE_FILE
from advisor.planfile.file import PlanFile
from advisor.planfile.from_advice import plan_of
from advisor.planning.question import PlanQuestion
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.request import Load, Workload
from advisor.profiles.run import Recipe, Run, RungStatus
from advisor.rendering.text.review import minutes, review_lines
from advisor.rendering.text.style import Look
from advisor.running.folders import runs_folder
from advisor.running.review import START_S, Review, finished_rungs, review, rung_seconds
from advisor.service import plan
from advisor.tui.workers.machine_tasks import MachineTasks
from tests.paths import ROOT

CANNED_RUN = ROOT / "tests/canned/run.json"
RECIPE = Recipe(requests=6, warmup_requests=2, repeats=2, seed=7, quality_text="text", quality_tokens=1000)


@pytest.fixture(scope="module")
def planned() -> PlanFile:
    return plan_of(plan(PlanQuestion(model="demo", profile="none", concurrency=2, prompt_tokens=64, output_tokens=16)))


@pytest.fixture
def reviewed(planned: PlanFile, tmp_path: Path) -> Review:
    return review(planned, tmp_path / "runs" / "new")


def text_of(review: Review, width: int = 100) -> str:
    return " ".join(Look(width).finish(review_lines(review, Look(width))).split())


def test_a_review_shows_every_effect_and_has_none(reviewed: Review, tmp_path: Path) -> None:
    text = text_of(reviewed)
    assert list(tmp_path.iterdir()) == []
    assert f"+ start {len(reviewed.rungs)} processes" in text
    for words in (
        "1 the unmodified model",
        *(f"adds {name}" for name in reviewed.rungs[1:]),
        "+ write run.json",
        "memory up to",
        "time about",
    ):
        assert words in text
    assert str(reviewed.out.name) in text
    assert "!" not in text


def test_too_little_room_is_marked(reviewed: Review) -> None:
    short = dataclasses.replace(reviewed, free_memory_bytes=1, free_disk_bytes=1)
    assert "! memory" in text_of(short)
    assert "likely to run out" in text_of(short)
    assert "! disk" in text_of(short)


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_a_review_fits_the_width(reviewed: Review, width: int) -> None:
    look = Look(width)
    assert max(map(len, look.finish(review_lines(reviewed, look)).splitlines())) <= width


def stopped(folder: Path, *, scores: bool) -> Path:
    run = Run.model_validate_json(CANNED_RUN.read_text(encoding="utf-8"))
    last = run.rungs[-1].model_copy(update={"status": RungStatus.CANCELLED})
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(run.model_copy(update={"rungs": (*run.rungs[:-1], last)}).model_dump_json())
    if scores:
        (folder / REFERENCE_FILE).touch()
    return folder


def test_what_an_earlier_run_has_finished_is_kept_the_baseline_only_with_its_scores(tmp_path: Path) -> None:
    with_scores = finished_rungs(stopped(tmp_path / "with", scores=True))
    without = finished_rungs(stopped(tmp_path / "without", scores=False))
    assert with_scores == ("baseline", *without)
    assert finished_rungs(tmp_path) == ()


def test_a_run_that_was_measured_otherwise_is_not_resumed(planned: PlanFile) -> None:
    folder = stopped(runs_folder() / f"20260101T000000Z-{planned.id}", scores=True)
    run = Run.model_validate_json((folder / "run.json").read_text())
    (folder / "run.json").write_text(run.model_copy(update={"plan_id": planned.id}).model_dump_json())
    assert MachineTasks().review(planned).out != folder


def rates(throughput: float, prefill: float) -> Metrics:
    return Metrics(
        throughput_tok_s=Value.exact(throughput, Basis.MEASURED),
        prefill_tok_s=Value.exact(prefill, Basis.MEASURED),
    )


@pytest.mark.parametrize(
    ("workload", "seconds"),
    [
        (Workload(prompt_tokens=64, output_tokens=10, load=Load.CLOSED, concurrency=2), START_S + 14 + 2),
        (Workload(prompt_tokens=64, output_tokens=10, load=Load.OPEN, request_rate_per_s=0.5), START_S + 24 + 2),
    ],
    ids=["closed", "open"],
)
def test_the_time_of_a_rung_is_its_start_its_repeats_and_its_text(workload: Workload, seconds: float) -> None:
    assert rung_seconds(rates(10, 500), workload, RECIPE) == pytest.approx(seconds)
    assert rung_seconds(Metrics(), workload, RECIPE) in (START_S, START_S + 24)


@pytest.mark.parametrize(("seconds", "words"), [(1, "half a minute"), (31, "a minute"), (61, "1.5 minutes"), (600, "10 minutes")])
def test_times_are_rounded_up_to_half_minutes(seconds: float, words: str) -> None:
    assert minutes(seconds) == words

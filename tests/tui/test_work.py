"""How long work stands after each thing that its child says, and how that reads."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from advisor.backends.processes.events import Event, Failed, Finished, Log, Measured, OnEvent, Progress, Started
from advisor.profiles.errors import AdvisorError
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.rendering.text.style import Look
from advisor.tui.workers.job import Job, Task, again
from advisor.tui.workers.job_progress import MOST_LINES, Ending, JobProgress, Stage, StageStatus
from advisor.tui.workers.job_text import about, chip, job_lines

W, R, D, K, F, C = StageStatus.WAITING, StageStatus.RUNNING, StageStatus.DONE, StageStatus.REUSED, StageStatus.FAILED, StageStatus.CANCELLED
M = StageStatus.OUT_OF_MEMORY
FRESH = JobProgress(stages=(Stage(name="baseline"), Stage(name="kv-int8"), Stage(name="weights-int4")), steps=("load", "serve"))
TPOT = Metrics(tpot_ms_mean=Value.exact(4.2, Basis.MEASURED))


def progress(step: str, done: int, total: int, left_s: float | None = None) -> Progress:
    return Progress(step=step, done=done, total=total, left_s=left_s)


def after(*events: Event | str, work: JobProgress = FRESH) -> JobProgress:
    for second, event in enumerate(events, 1):
        work = work.on_event(event, float(second))
    return work


CASES: list[tuple[str, tuple[Event | str, ...], tuple[StageStatus, StageStatus, StageStatus], float]] = [
    ("nothing was said", (), (W, W, W), 0),
    ("a child is up", (Started(pid=1, threads=1),), (W, W, W), 0),
    ("half of the first step", (progress("baseline: load", 1, 2),), (R, W, W), 1 / 12),
    ("the second step", (progress("baseline: serve", 1, 2),), (R, W, W), 1 / 4),
    ("never back", (progress("baseline: serve", 1, 2), progress("baseline: load", 0, 1)), (R, W, W), 1 / 4),
    ("more done than there is", (progress("baseline: serve", 9, 2),), (R, W, W), 1 / 3),
    ("a step without a size", (progress("baseline: serve", 0, 0),), (R, W, W), 1 / 6),
    ("an unknown step", (progress("baseline: polish", 1, 2),), (R, W, W), 0),
    ("an unknown stage", (progress("polish", 1, 2),), (W, W, W), 0),
    ("one child is done", (progress("baseline: load", 1, 2), Finished(seconds=1)), (D, W, W), 1 / 3),
    ("the next one says it all", (progress("baseline: load", 1, 2), progress("kv-int8: load", 0, 1)), (D, R, W), 1 / 3),
    ("what came before was kept", (progress("kv-int8: serve", 0, 1),), (K, R, W), 1 / 4),
    ("a failure is named", (Failed(code="out-of-memory", message="kv-int8: out of memory"),), (W, M, W), 1 / 3),
    ("a failure without a name", (progress("baseline: load", 0, 1), Failed(code="child-died", message="killed")), (F, W, W), 1 / 3),
    (
        "a failure does not stop the next",
        (Failed(code="x", message="baseline: killed"), progress("kv-int8: load", 0, 1)),
        (F, R, W),
        1 / 3,
    ),
    ("a cancelled child is no failure", (progress("baseline: load", 0, 1), Failed(code="cancelled", message="c")), (C, W, W), 0),
]


@pytest.mark.parametrize(("events", "statuses", "share"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_stages_follow_what_the_children_say(events: tuple[Event, ...], statuses: tuple[StageStatus, ...], share: float) -> None:
    work = after(*events)
    assert tuple(stage.status for stage in work.stages) == statuses
    assert work.share == pytest.approx(share)


def test_the_numbers_of_a_stage_stay_beside_it() -> None:
    work = after(progress("baseline: serve", 1, 2), Measured(metrics=TPOT), Finished(seconds=1), progress("kv-int8: load", 0, 1))
    assert work.stages[0].result == "TPOT mean 4.20 ms"
    assert work.stages[1].result == ""


def test_stages_without_steps_are_their_own_measure() -> None:
    work = JobProgress(stages=(Stage(name="memory"), Stage(name="products")))
    assert after(progress("memory", 1, 2), work=work).share == pytest.approx(0.25)
    assert after(progress("memory", 1, 1), progress("products", 1, 2), work=work).share == pytest.approx(0.75)


def test_time_left_is_what_the_child_says_less_what_went_by_since() -> None:
    work = after(progress("baseline: load", 0, 1, left_s=40.0))
    assert [work.left(now) for now in (1.0, 11.0, 100.0)] == [40.0, 30.0, 0.0]


def test_without_a_word_of_the_child_time_left_is_at_the_pace_so_far() -> None:
    work = JobProgress(stages=FRESH.stages, started_s=0.0).on_event(progress("baseline", 3, 4), 10.0)
    assert work.left(10.0) == pytest.approx(30.0)
    assert FRESH.left(10.0) is None


def test_a_rung_whose_child_is_being_started_is_said_to_start() -> None:
    between = after(progress("baseline: load", 1, 2), Finished(seconds=1))
    assert [work.starting and work.starting.name for work in (FRESH, between, after(progress("baseline: load", 0, 1)))] == [
        "baseline", "kv-int8", None,
    ]  # fmt: skip
    assert FRESH.end(Ending.CANCELLED).starting is None
    job = Job(Task(verb="apply", title="A", stages=FRESH.stages, do=lambda on_event, cancel: None))
    assert chip(job) == "apply starting"
    assert "● baseline  starting" in " ".join(f"{line} " for line in job_lines(job, Look(100), 3)).replace("   ", " ")


def test_that_a_rung_was_cancelled_is_said_once() -> None:
    heard = (progress("kv-int8: serve", 0, 1), Failed(code="cancelled", message="kv-int8: cancelled after 40 s"))
    job = Job(Task(verb="apply", title="A", stages=FRESH.stages, do=lambda on_event, cancel: None))
    job.progress = after(*heard).end(Ending.CANCELLED)
    (line,) = (line for line in job_lines(job, Look(100), 0) if "kv-int8" in line)
    assert line.endswith("cancelled in serve after 40 s")


def test_only_the_last_lines_are_kept() -> None:
    work = after(*(f"line {number}" for number in range(MOST_LINES + 5)), Log(text="two\nlines"))
    assert len(work.lines) == MOST_LINES
    assert work.lines[-2:] == ("two", "lines")


@pytest.mark.parametrize("ending", list(Ending))
def test_an_end_leaves_no_stage_running(ending: Ending) -> None:
    work = after(progress("kv-int8: load", 0, 1)).end(ending)
    assert R not in {stage.status for stage in work.stages}
    assert work.left(99.0) is None


def task(does: str, entered: threading.Event | None = None) -> Task:
    def do(on_event: OnEvent, cancel: threading.Event) -> object:
        on_event(progress("first", 1, 2))
        if does == "waits":
            assert entered is not None
            entered.set()
            assert cancel.wait(60)
            raise AdvisorError("profile-failed", "cancelled after 1 s")
        if does == "fails":
            raise AdvisorError("profile-failed", "this machine could not be measured", notes=("the last line of its log",))
        if does == "errs":
            raise RuntimeError("boom")
        return does

    return Task(verb="profile", title="A task", stages=(Stage(name="first"), Stage(name="second")), do=do)


@pytest.mark.parametrize(
    ("does", "ending", "words"),
    [
        ("works", Ending.DONE, ""),
        ("fails", Ending.FAILED, "This machine could not be measured. The last line of its log"),
        ("errs", Ending.FAILED, "RuntimeError: boom"),
    ],
)
def test_a_job_ends_as_its_task_does(does: str, ending: Ending, words: str) -> None:
    job = Job(task(does))
    assert job.running
    job.run()
    assert (job.running, job.progress.ended) == (False, ending)
    assert words in job.progress.why
    assert job.result == (does if does == "works" else None)


def test_a_cancelled_job_is_gone_when_it_no_longer_runs() -> None:
    entered = threading.Event()
    job = Job(task("waits", entered))
    thread = threading.Thread(target=job.run)
    thread.start()
    assert entered.wait(60)
    assert chip(job).startswith("profile 25 %")
    job.cancel()
    assert job.wait(60)
    thread.join(60)
    assert (job.progress.ended, job.progress.why, chip(job)) == (Ending.CANCELLED, "", "profile cancelled")
    assert [stage.status for stage in job.progress.stages] == [C, W]


def test_a_job_that_finished_as_it_was_cancelled_is_done() -> None:
    def do(on_event: OnEvent, cancel: threading.Event) -> object:
        on_event(Finished(seconds=1))
        cancel.set()
        return None

    job = Job(Task(verb="apply", title="A", stages=(Stage(name="only"),), do=do))
    job.progress = job.progress.on_event(progress("only", 1, 1), 0.0)
    job.run()
    assert job.progress.ended is Ending.DONE


@pytest.mark.parametrize("width", [0, 20, 60, 80, 200])
@pytest.mark.parametrize("does", ["works", "fails"])
def test_the_lines_of_a_job_fit_the_width_and_are_ascii_where_asked(does: str, width: int) -> None:
    job = Job(task(does))
    job.run()
    job.progress = job.progress.on_event("a line of the log " * 20, 0.0)
    look = Look(width, ascii=True)
    text = look.finish(job_lines(job, look, 3))
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= max(width, 40)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "5 s"), (12, "15 s"), (59, "60 s"), (60, "1 min"), (61, "2 min"), (7100, "119 min"), (7300, "2.0 h"), (86400, "24.0 h")],
)
def test_time_left_is_told_as_coarsely_as_it_is_known(seconds: float, words: str) -> None:
    assert about(seconds) == words


def test_again_keeps_what_a_folder_has_and_begins_all_else_anew() -> None:
    stages = tuple(replace(stage, status=status, result="told") for stage, status in zip(FRESH.stages, (D, F, K), strict=True))
    made = Task(verb="apply", title="A", stages=FRESH.stages, do=lambda on_event, cancel: None, folder=Path("run"))
    assert [stage.status for stage in again(made, replace(FRESH, stages=stages)).stages] == [K, W, K]
    nowhere = again(replace(made, folder=None), replace(FRESH, stages=stages))
    assert [(stage.status, stage.result) for stage in nowhere.stages] == [(W, "")] * 3


def test_running_out_of_memory_is_a_result_and_names_the_step() -> None:
    work = after(progress("kv-int8: serve", 0, 1), Failed(code="out-of-memory", message="kv-int8: 2 GiB were asked for", notes=("a note",)))
    assert work.stages[1].status is StageStatus.OUT_OF_MEMORY
    assert work.lines == ("kv-int8: 2 GiB were asked for", "a note")
    job = Job(Task(verb="apply", title="A", stages=FRESH.stages, do=lambda on_event, cancel: None))
    job.progress = work
    assert any("out of memory in serve: 2 GiB were asked for" in line for line in job_lines(job, Look(100), 3))

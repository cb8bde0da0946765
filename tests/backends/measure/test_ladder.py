"""The ladder measures rung by rung, keeps finished rungs, resumes where it stopped and refuses to mix runs."""

import json
import resource
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from advisor.backends.measure.ladder import run_ladder
from advisor.backends.measure.ladder_rungs import REFERENCE_FILE, Ladder, LadderRung, OnEvent
from advisor.backends.processes.events import Event, Log, Progress
from advisor.backends.processes.jobs import Chosen
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Request, Workload
from advisor.profiles.run import RUN_FILE, Environment, Recipe, Run, RungStatus, read_run


@pytest.fixture
def ladder(tiny_model_folder: Path, tiny_text_file: Path) -> Ladder:
    return Ladder(
        plan_id="plan-1",
        title="int8 cache in blocks",
        model="tiny",
        folder=tiny_model_folder,
        text_file=tiny_text_file,
        request=Request(workload=Workload(prompt_tokens=24, output_tokens=6, concurrency=2)),
        environment=Environment(fingerprint="cpu:test", device="cpu", threads=1, python="3.11", packages={}),
        recipe=Recipe(requests=4, warmup_requests=2, repeats=2, seed=3, quality_text="library text", quality_tokens=128),
        steps=(
            LadderRung((), Metrics()),
            LadderRung((Chosen(name="kv-paged", options={"block_tokens": 16}),), Metrics()),
            LadderRung((Chosen(name="kv-int8"),), Metrics(throughput_tok_s=Value.exact(7.0))),
        ),
        max_sequences=2,
    )


WORKER = """
import json, pathlib, sys, time
job, here = json.load(sys.stdin), pathlib.Path(__file__).parent
names = [technique["name"] for technique in job["techniques"]]
with (here / "started").open("a") as file:
    print(json.dumps(names), file=file)
ending = json.loads((here / "endings").read_text()).get(str(len(names)), "done")
print(json.dumps({"event": "log", "text": ending}), flush=True)
if ending == "hangs":
    time.sleep(60)
if ending == "out-of-memory":
    print(json.dumps({"event": "failed", "code": ending, "message": "went wrong"}), flush=True)
else:
    if job["is_baseline"]:
        pathlib.Path(job["reference_file"]).write_bytes(b"scores")
    value = {"value": 5.0, "low": 4.0, "high": 6.0, "basis": "measured"}
    print(json.dumps({"event": "measured", "metrics": {"throughput_tok_s": value}}))
    if pathlib.Path(job["reference_file"]).exists():
        print(json.dumps({"event": "measured", "metrics": {"kl_divergence": value}}))
    print(json.dumps({"event": "finished", "seconds": 0.1}), flush=True)
"""


class Children:
    """Quick children in place of the worker: they end as set by the number of their techniques, and record that they started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.worker = (str(folder / "worker.py"),)
        (folder / "worker.py").write_text(WORKER)
        self.end({})

    def run(self, ladder: Ladder, out: Path, on_event: OnEvent = lambda *_: None, *, cancel: threading.Event | None = None) -> Run:
        """The ladder with these children."""
        return run_ladder(ladder, out, on_event, cancel=cancel, worker=self.worker)

    def end(self, endings: dict[int, str]) -> None:
        """From now on, a child with that number of techniques ends so; others are done. Clears `started`."""
        (self._folder / "endings").write_text(json.dumps(endings))
        (self._folder / "started").write_text("")

    @property
    def started(self) -> list[list[str]]:
        """Techniques of each child since then."""
        return [json.loads(line) for line in (self._folder / "started").read_text().splitlines()]


@pytest.fixture
def children(tmp_path_factory: pytest.TempPathFactory) -> Children:
    folder = tmp_path_factory.mktemp("children")
    return Children(folder)


def said(events: list[tuple[str, Event]]) -> list[str]:
    return [event.text for _, event in events if isinstance(event, Log)]


def test_techniques_are_added_one_at_a_time(ladder: Ladder, children: Children, tmp_path: Path) -> None:
    run = children.run(ladder, tmp_path)
    assert children.started == [[], ["kv-paged"], ["kv-paged", "kv-int8"]]
    assert [rung.name for rung in run.rungs] == ["baseline", "kv-paged", "kv-int8"]
    assert run.rungs[2].predicted.throughput_tok_s == Value.exact(7.0)
    assert read_run(tmp_path / RUN_FILE) == run
    assert not (tmp_path / REFERENCE_FILE).exists(), "the scores are of no use once every rung is done"


def test_a_second_run_in_the_folder_is_refused_and_changes_nothing(ladder: Ladder, children: Children, tmp_path: Path) -> None:
    refused: list[tuple[str, list[str]]] = []

    def run_again(rung: str, event: Event) -> None:
        if isinstance(event, Log):
            before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
            with pytest.raises(AdvisorError) as caught:
                run_ladder(ladder, tmp_path, lambda *_: None, worker=children.worker, on_start=lambda: refused.append(("started", [])))
            assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
            refused.append((caught.value.code, [rung]))

    run = children.run(ladder, tmp_path, run_again)
    assert refused == [("run-busy", [name]) for name in ("baseline", "kv-paged", "kv-int8")]
    assert [rung.status for rung in run.rungs] == [RungStatus.DONE] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", RUN_FILE]


def test_a_rung_that_fails_is_recorded_and_the_next_is_tried(ladder: Ladder, children: Children, tmp_path: Path) -> None:
    children.end({1: "out-of-memory"})
    run = children.run(ladder, tmp_path)
    assert [rung.status for rung in run.rungs] == [RungStatus.DONE, RungStatus.OUT_OF_MEMORY, RungStatus.DONE]
    assert run.rungs[1].error == "went wrong"


def test_a_second_run_does_only_what_is_missing_and_says_so(ladder: Ladder, children: Children, tmp_path: Path) -> None:
    children.end({2: "hangs"})
    cancel = threading.Event()
    first = children.run(ladder, tmp_path, lambda _, event: cancel.set() if event == Log(text="hangs") else None, cancel=cancel)
    assert [rung.status for rung in first.rungs] == [RungStatus.DONE, RungStatus.DONE, RungStatus.CANCELLED]
    children.end({})
    events: list[tuple[str, Event]] = []
    second = children.run(ladder, tmp_path, lambda name, event: events.append((name, event)))
    assert children.started == [["kv-paged", "kv-int8"]]
    assert second.id == first.id
    assert {rung.status for rung in second.rungs} == {RungStatus.DONE}
    assert any("2 of 3 rungs" in text and "kv-paged" in text for text in said(events)), said(events)


def test_without_the_baseline_s_scores_the_baseline_is_measured_again(ladder: Ladder, children: Children, tmp_path: Path) -> None:
    children.end({2: "out-of-memory"})
    children.run(ladder, tmp_path)
    (tmp_path / REFERENCE_FILE).unlink()
    children.end({})
    children.run(ladder, tmp_path)
    assert children.started == [[], ["kv-paged", "kv-int8"]]


def test_rungs_without_quality_are_measured_again_once_the_baseline_has_left_its_scores(
    ladder: Ladder, children: Children, tmp_path: Path
) -> None:
    children.end({0: "out-of-memory"})
    first = children.run(ladder, tmp_path)
    assert [rung.measured.kl_divergence if rung.measured else None for rung in first.rungs[1:]] == [None, None]
    children.end({0: "out-of-memory"})
    children.run(ladder, tmp_path)
    assert children.started == [[]], "without scores the others would gain nothing"
    children.end({})
    last = children.run(ladder, tmp_path)
    assert children.started == [[], ["kv-paged"], ["kv-paged", "kv-int8"]]
    assert all(rung.measured and rung.measured.kl_divergence for rung in last.rungs)


@pytest.mark.parametrize("change", ["plan", "machine", "recipe"])
def test_another_run_s_folder_is_left_alone(ladder: Ladder, children: Children, tmp_path: Path, change: str) -> None:
    children.run(ladder, tmp_path)
    before = (tmp_path / RUN_FILE).read_bytes()
    other = {
        "plan": replace(ladder, plan_id="plan-2"),
        "machine": replace(ladder, environment=ladder.environment.model_copy(update={"fingerprint": "cpu:other"})),
        "recipe": replace(ladder, recipe=ladder.recipe.model_copy(update={"repeats": 9})),
    }[change]
    with pytest.raises(AdvisorError) as caught:
        children.run(other, tmp_path)
    assert (caught.value.code, caught.value.exit_code) == ("run-exists", ExitCode.STALE)
    assert (tmp_path / RUN_FILE).read_bytes() == before
    there, here = (note.partition(": ")[2] for note in caught.value.notes)
    assert there != here, "the notes say what differs"


def test_a_full_disk_keeps_the_rungs_written_before(ladder: Ladder, children: Children, tmp_path: Path) -> None:
    def fill_the_disk(rung: str, event: Event) -> None:
        if rung == "kv-int8":
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(AdvisorError) as caught:
            children.run(ladder, tmp_path, fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "disk-full"
    assert [rung.status for rung in read_run(tmp_path / RUN_FILE).rungs] == [RungStatus.DONE, RungStatus.DONE, RungStatus.NOT_RUN]


def test_a_folder_with_a_broken_run_is_left_as_it_is(ladder: Ladder, tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).write_text("{")
    with pytest.raises(AdvisorError) as caught:
        run_ladder(ladder, tmp_path, lambda rung, event: None)
    assert caught.value.code == "run-file"
    assert (tmp_path / RUN_FILE).read_text() == "{"


@pytest.mark.slow
def test_two_rungs_in_real_children_measure_speed_memory_and_quality(ladder: Ladder, tmp_path: Path) -> None:
    events: list[tuple[str, Event]] = []
    last = LadderRung((Chosen(name="kv-int8"),), Metrics())
    run = run_ladder(replace(ladder, steps=(ladder.steps[0], last)), tmp_path, lambda name, event: events.append((name, event)))
    assert [rung.status for rung in run.rungs] == [RungStatus.DONE] * 2, [rung.error for rung in run.rungs]
    base, candidate = (rung.measured.present() for rung in run.rungs if rung.measured)
    for metrics in (base, candidate):
        assert {"ttft_ms_mean", "tpot_ms_p95", "throughput_tok_s", "prefill_tok_s", "peak_memory_gib", "weights_gib"} <= metrics.keys()
        assert 0 < metrics["weights_gib"].value < metrics["peak_memory_gib"].value
    assert candidate["kv_cache_gib"].value < 0.8 * base["kv_cache_gib"].value
    assert candidate["kl_divergence"].value > 0
    assert base["quality_loss_pct"].value == 0
    assert len(run.rungs[0].samples) == ladder.recipe.requests * ladder.recipe.repeats
    assert {name for name, event in events if isinstance(event, Progress)} == {"baseline", "kv-int8"}


ALTERNATING = """
import json, pathlib, sys
job, here = json.loads(sys.stdin.readline()), pathlib.Path(__file__).parent
name = "+".join(technique["name"] for technique in job["techniques"]) or "baseline"
def part(what):
    print(json.dumps({"event": "ready"}), flush=True)
    sys.stdin.readline()
    with (here / "parts").open("a") as file:
        print(name, what, file=file)
value = {"value": 5.0, "low": 4.0, "high": 6.0, "basis": "measured"}
part("load")
for number in range(job["recipe"]["repeats"]):
    part("repeat")
repeats = [{"throughput_tok_s": 10.0 * (len(job["techniques"]) + 1), "ttft_ms_mean": 5.0}] * job["recipe"]["repeats"]
print(json.dumps({"event": "measured", "metrics": {"throughput_tok_s": value}, "repeats": repeats}), flush=True)
if job["measures_quality"]:
    part("quality")
    if job["is_baseline"]:
        pathlib.Path(job["reference_file"]).write_bytes(b"scores")
    print(json.dumps({"event": "measured", "metrics": {"kl_divergence": value}}), flush=True)
print(json.dumps({"event": "finished", "seconds": 0.1}), flush=True)
"""


def test_repeats_of_the_baseline_and_of_the_full_stack_alternate(ladder: Ladder, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(ALTERNATING)
    pair = replace(
        ladder,
        recipe=ladder.recipe.model_copy(update={"interleaved": True}),
        steps=(ladder.steps[0], LadderRung((Chosen(name="kv-paged"), Chosen(name="kv-int8")), Metrics())),
    )
    run = run_ladder(pair, tmp_path / "out", lambda *_: None, worker=(str(tmp_path / "worker.py"),))
    assert [(rung.name, rung.status) for rung in run.rungs] == [("baseline", RungStatus.DONE), ("full stack", RungStatus.DONE)]
    steps = ("load", "repeat", "repeat", "quality")
    expected = [f"{name} {step}" for step in steps for name in ("baseline", "kv-paged+kv-int8")]
    assert (tmp_path / "parts").read_text().splitlines() == expected
    assert [repeat.throughput_tok_s for repeat in run.rungs[1].repeats] == [30.0, 30.0]
    assert [repeat.throughput_tok_s for repeat in run.rungs[1].baseline_repeats] == [10.0, 10.0]


def test_a_full_stack_that_dies_leaves_the_baseline_measured(ladder: Ladder, tmp_path: Path) -> None:
    dies = "import json, sys\njob = json.loads(sys.stdin.readline())\nif job['techniques']: sys.exit(3)\n"
    (tmp_path / "worker.py").write_text(
        dies + ALTERNATING.replace("job, here = json.loads(sys.stdin.readline()), pathlib", "here = pathlib")
    )
    pair = replace(
        ladder,
        recipe=ladder.recipe.model_copy(update={"interleaved": True}),
        steps=(ladder.steps[0], LadderRung((Chosen(name="kv-paged"),), Metrics())),
    )
    run = run_ladder(pair, tmp_path / "out", lambda *_: None, worker=(str(tmp_path / "worker.py"),))
    assert [rung.status for rung in run.rungs] == [RungStatus.DONE, RungStatus.FAILED]

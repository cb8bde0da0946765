"""Tasks whose reviews and work are canned: nothing is measured, and time left stands still, so that frames stay the same."""

import threading
from pathlib import Path

from advisor.backends.detection.detect import Detected
from advisor.backends.detection.host import read_host
from advisor.backends.measure.ladder_rungs import LadderRung
from advisor.backends.processes.events import Event, Failed, Finished, Log, Measured, OnEvent, Progress
from advisor.backends.processes.jobs import PROFILE_STEPS, Chosen
from advisor.planfile.file import PlanFile
from advisor.planfile.from_advice import plan_of
from advisor.profiles.errors import AdvisorError
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.run import Recipe
from advisor.running.preflight import PreparedRun
from advisor.running.review import Review
from advisor.tui.workers.job import Task
from advisor.tui.workers.job_progress import Stage
from advisor.tui.workers.machine_tasks import MachineTasks
from tests.rendering.text.test_text import FITS, MODEL

PLAN = plan_of(FITS)
FOLDER = Path("/home/somebody/.local/state/advisor/runs") / f"20261122T000000Z-{PLAN.id}"
RECIPE = Recipe(requests=48, warmup_requests=4, repeats=2, seed=7, quality_text="heldout.txt", quality_tokens=16384)
STEPS = (
    LadderRung((), Metrics(peak_memory_gib=Value.exact(16.1, Basis.CATALOGUE))),
    LadderRung(
        (Chosen(name="weights-int4", options={"group_size": 128, "head": True}),),
        Metrics(peak_memory_gib=Value.exact(6.2, Basis.CATALOGUE)),
    ),
    LadderRung((Chosen(name="kv-paged"),), Metrics()),
    LadderRung((Chosen(name="decode-draft", options={"draft_tokens": 4}),), Metrics()),
)
REVIEW = Review(
    prepared=PreparedRun(
        plan=PLAN,
        detected=Detected(host=read_host(), gpus=(), torch=None, notes=()),
        model=MODEL,
        model_folder=Path("/home/somebody/models/llama-8b"),
        draft_folder=None,
        request=FITS.request,
        recipe=RECIPE,
        dtype=None,
        rungs=STEPS,
    ),
    out=FOLDER,
    finished=("baseline",),
    memory=Value(value=16.1, low=15.4, high=16.9, basis=Basis.CATALOGUE),
    free_memory_bytes=int(21.4 * GIB),
    free_disk_bytes=212 * GIB,
    seconds=260.0,
)


def numbers(ttft: float, tpot: float, throughput: float) -> Measured:
    values = {"ttft_ms_mean": ttft, "tpot_ms_mean": tpot, "throughput_tok_s": throughput}
    return Measured(metrics=Metrics(**{name: Value.exact(value, Basis.MEASURED) for name, value in values.items()}))


def at(step: str, done: int, total: int, left_s: float | None = None) -> Progress:
    return Progress(step=step, done=done, total=total, left_s=left_s)


APPLY_RUNNING: tuple[Event, ...] = (
    Log(text="1 of 4 rungs were finished by an earlier run and are kept: baseline"),
    at("weights-int4: load", 1, 1),
    at("weights-int4: quality", 1, 1),
    numbers(180, 15.7, 349),
    Finished(seconds=40),
    at("kv-paged: repeat 1 of 2", 12, 48, left_s=130.0),
)
KILLED = Failed(
    code="child-died", message="kv-paged: the child process was killed by SIGKILL", notes=("what it printed is in 02-kv-paged.log",)
)
MEMORY = Failed(code="out-of-memory", message="decode-draft: 2.1 GiB were asked for, 1.3 GiB were free")
REST = (
    numbers(171, 14.2, 362),
    Finished(seconds=40),
    at("decode-draft: repeat 2 of 2", 48, 48),
    numbers(175, 9.8, 548),
    Finished(seconds=40),
)
PROFILE_RUNNING: tuple[Event, ...] = (
    at(PROFILE_STEPS[0], 1, 1),
    Log(text="reading 42.1 GB/s, copying 30.5 GB/s"),
    at(PROFILE_STEPS[1], 31, 80, left_s=42.0),
)
PROFILED: tuple[Event, ...] = (at(PROFILE_STEPS[1], 80, 80), Finished(seconds=58))
NO_PROFILE = AdvisorError(
    "profile-failed",
    "this machine could not be measured: the child process was killed by SIGKILL",
    notes=("Killed",),
)


class CannedTasks(MachineTasks):
    """Tasks that say `events` once the test lets them, and then wait to be cancelled, or `end`."""

    def __init__(self, events: tuple[Event, ...], *, end: AdvisorError | bool = False) -> None:
        super().__init__()
        self.let = threading.Event()
        self.said = threading.Event()
        self._events = events
        self._end = end

    def other_load(self) -> str | None:
        return None

    def review(self, plan: PlanFile) -> Review:
        return REVIEW

    def apply(self, review: Review) -> Task:
        made = super().apply(review)
        return Task(verb=made.verb, title=made.title, stages=made.stages, steps=made.steps, folder=made.folder, do=self._do)

    def profile(self, *, wait: bool = False) -> Task:
        stages = tuple(Stage(name=name) for name in PROFILE_STEPS)
        return Task(verb="profile", title="Profile this machine", stages=stages, do=self._do)

    def _do(self, on_event: OnEvent, cancel: threading.Event) -> object:
        self.let.wait(60)
        for event in self._events:
            on_event(event)
        self.said.set()
        if self._end:
            if isinstance(self._end, AdvisorError):
                raise self._end
            return None
        cancel.wait(60)
        raise AdvisorError("cancelled", "cancelled after 60 s")

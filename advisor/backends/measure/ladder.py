"""The ladder: measures the baseline, then adds one technique at a time; every rung runs in a fresh child process, one at a time."""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from advisor.backends.processes.alternation import Alternation
from advisor.backends.processes.child import WORKER, JobResult, run_job
from advisor.backends.processes.events import Event, Log, Progress
from advisor.backends.processes.folder_lock import locked_folder
from advisor.backends.processes.jobs import Chosen, RungJob
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import write_whole
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Request
from advisor.profiles.run import RUN_FILE, Environment, HeldWeights, Recipe, Run, Rung, RungStatus, read_run

LOGS_FOLDER = "logs"
REFERENCE_FILE = "baseline-logprobs.safetensors"
BASELINE = "baseline"
FULL_STACK = "full stack"

OnEvent = Callable[[str, Event], None]
"""Called with the rung's name and an event of its child."""


@dataclass(frozen=True, slots=True)
class LadderRung:
    """A rung to measure: the techniques that it adds to the rung before, none for the baseline, and its predicted metrics."""

    techniques: tuple[Chosen, ...]
    predicted: Metrics

    @property
    def name(self) -> str:
        """The rung's name: of the technique that it adds, or `full stack` where it adds several."""
        return self.techniques[0].name if len(self.techniques) == 1 else FULL_STACK if self.techniques else BASELINE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What `run_ladder` measures. `steps` start with the baseline and follow the order in which techniques are applied."""

    plan_id: str
    title: str
    model: str
    """The model's name, as shown."""
    folder: Path
    draft_folder: Path | None = None
    """Folder of the draft model, for techniques that need one."""
    text_file: Path
    request: Request
    environment: Environment
    recipe: Recipe
    steps: tuple[LadderRung, ...]
    max_sequences: int
    """Most sequences in the baseline's batch."""
    dtype: str | None = None
    """Type of activations of the baseline; `None` for the checkpoint's own."""
    device: str = "cpu"
    memory_limit_bytes: int | None = None


def run_ladder(
    ladder: Ladder,
    out: Path,
    on_event: OnEvent,
    *,
    cancel: threading.Event | None = None,
    rung_timeout_s: float = 1800.0,
    worker: Sequence[str] = WORKER,
    on_start: Callable[[], object] = lambda: None,
) -> Run:
    """Measure every rung that an earlier run of the same plan on this machine did not finish, and return the run.

    Repeats of the last rung alternate with those of the baseline in a second process, where the recipe says so. Every other rung is
    measured alone.

    `run.json` in `out` is written after every rung. A rung that fails is recorded, and the next one is measured. Without a baseline the
    other rungs have no quality: they are measured again once a later run has the baseline's scores.
    `out` is created, and locked against other processes; then, before anything is written, `on_start` is called.
    Raises `AdvisorError` `run-busy` when another process runs in `out`, `run-exists` when it contains the run of another plan, and the
    errors of `read_run` and `write_whole`.
    """
    with locked_folder(out):
        run, finished = _resumed(ladder, out)
        on_start()
        if finished:
            on_event(
                BASELINE,
                Log(text=f"{len(finished)} of {len(run.rungs)} rungs were finished by an earlier run and are kept: {', '.join(finished)}"),
            )
        runner = _Runner(ladder, out, on_event, cancel or threading.Event(), rung_timeout_s, worker)
        return _run_rungs(ladder, run, out, runner)


def _run_rungs(ladder: Ladder, run: Run, out: Path, runner: "_Runner") -> Run:
    """The run with every unfinished rung measured, until it is cancelled; written after each."""
    write_whole(out / RUN_FILE, run.model_dump_json(indent=1))
    for index in range(len(ladder.steps)):
        if _is_finished(run.rungs[index], has_scores=(out / REFERENCE_FILE).is_file()):
            continue
        measured = runner.measured(index, finished=index)
        if not measured:
            break
        rungs = list(run.rungs)
        for position, rung in measured.items():
            rungs[position] = rung
        run = run.model_copy(update={"rungs": tuple(rungs)})
        write_whole(out / RUN_FILE, run.model_dump_json(indent=1))
    if all(_is_finished(rung, has_scores=True) for rung in run.rungs):
        (out / REFERENCE_FILE).unlink(missing_ok=True)
    return run


@dataclass(frozen=True, slots=True)
class _Runner:
    """Measures rungs in child processes."""

    ladder: Ladder
    out: Path
    on_event: OnEvent
    cancel: threading.Event
    timeout_s: float
    worker: Sequence[str]

    def measured(self, index: int, *, finished: int) -> dict[int, Rung]:
        """The rung at `index`, and those that were measured with it, by position; empty once the run is cancelled."""
        if self.cancel.is_set():
            return {}
        last = len(self.ladder.steps) - 1
        if not self.ladder.recipe.interleaved or last == 0:
            return {index: self._alone(index, finished)}
        if last == 1:
            baseline, rung = self._alternating(baseline_too=True)
            return {0: baseline, 1: rung}
        return {index: self._alternating(baseline_too=False)[1]} if index == last else {index: self._alone(index, finished)}

    def _alone(self, index: int, finished: int) -> Rung:
        name, ladder = self.ladder.steps[index].name, self.ladder
        forward = partial(self.on_event, name)
        timed = _LeftOfRun(forward, rungs_after=len(ladder.steps) - finished - 1)
        result = run_job(
            _job(ladder, index, self.out),
            timed,
            log_file=self._log(index, name),
            timeout_s=self.timeout_s,
            cancel=self.cancel,
            worker=self.worker,
        )
        return _rung(ladder, index, result)

    def _alternating(self, *, baseline_too: bool) -> tuple[Rung, Rung]:
        """The baseline and the full stack, whose repeats alternate; of a baseline that is measured already, only the speed is."""
        ladder, last, alternation = self.ladder, len(self.ladder.steps) - 1, Alternation()
        name = ladder.steps[last].name
        jobs = (
            _job(ladder, 0, self.out).model_copy(update={"waits": True, "measures_quality": baseline_too}),
            _job(ladder, last, self.out).model_copy(update={"waits": True}),
        )
        lock = threading.Lock()

        def forward(process: int, event: Event) -> None:
            with lock:
                self._forward(name, process, event, baseline_too=baseline_too)

        def run(process: int) -> JobResult:
            def may_begin(deadline_s: float) -> bool:
                return alternation.wait(process, self.cancel, deadline_s)

            label = BASELINE if baseline_too else f"{BASELINE}-again"
            log_file = self._log((0, last)[process], (label, name)[process])
            try:
                return run_job(
                    jobs[process],
                    partial(forward, process),
                    log_file=log_file,
                    timeout_s=2 * self.timeout_s,
                    cancel=self.cancel,
                    worker=self.worker,
                    may_begin=may_begin,
                )
            finally:
                alternation.leave(process)

        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(run, process) for process in (0, 1)]
            try:
                first, second = (future.result() for future in futures)
            except BaseException:
                self.cancel.set()  # the pool waits for both processes
                raise
        rung = _rung(ladder, last, second).model_copy(update={"baseline_repeats": first.repeats})
        return _rung(ladder, 0, first), rung

    def _forward(self, name: str, process: int, event: Event, *, baseline_too: bool) -> None:
        """Pass on an event of process 0, the baseline, or 1, the rung `name`; of a baseline that is measured already, only progress."""
        if process == 0 and baseline_too:
            self.on_event(BASELINE, event)
        elif process == 0 and isinstance(event, Progress):
            self.on_event(name, event.model_copy(update={"step": f"baseline again, {event.step}"}))
        elif process == 1:
            self.on_event(name, event)

    def _log(self, index: int, name: str) -> Path:
        return self.out / LOGS_FOLDER / f"{index:02d}-{name.replace(' ', '-')}.log"


class _LeftOfRun:
    """Passes events on; the time left of one rung becomes that of the run, whose further rungs are taken to last as long."""

    def __init__(self, forward: Callable[[Event], None], *, rungs_after: int) -> None:
        self._forward = forward
        self._rungs_after = rungs_after
        self._started_s = time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress) and event.left_s is not None:
            whole_s = time.monotonic() - self._started_s + event.left_s
            event = event.model_copy(update={"left_s": event.left_s + self._rungs_after * whole_s})
        self._forward(event)


def _resumed(ladder: Ladder, out: Path) -> tuple[Run, tuple[str, ...]]:
    """The run to continue, and the names of its rungs that are finished."""
    fresh = _fresh(ladder)
    if not (out / RUN_FILE).exists():
        return fresh, ()
    earlier = read_run(out / RUN_FILE)
    if not _continues(earlier, fresh):
        raise AdvisorError(
            "run-exists",
            f"{out / RUN_FILE} holds a run of another plan, machine or recipe; nothing was changed",
            exit_code=ExitCode.STALE,
            notes=(f"there: {_description(earlier)}", f"here: {_description(fresh)}"),
            help=("choose another --out",),
            field="out",
            action=ErrorAction.CHOOSE,
        )
    needs_reference = not (out / REFERENCE_FILE).is_file() and not all(_is_finished(rung, has_scores=True) for rung in earlier.rungs)
    rungs = tuple(
        old.model_copy(update={"predicted": new.predicted, "weights": HeldWeights.of(new.predicted, old.measured)})
        if old.status is RungStatus.DONE and not (needs_reference and old.name == BASELINE)
        else new
        for old, new in zip(earlier.rungs, fresh.rungs, strict=True)
    )
    finished = tuple(rung.name for rung in rungs if _is_finished(rung, has_scores=True))
    return fresh.model_copy(update={"id": earlier.id, "created": earlier.created, "rungs": rungs}), finished


def _is_finished(rung: Rung, *, has_scores: bool) -> bool:
    """Whether a rung is fully measured; with `has_scores`, the baseline's scores exist, its quality must be too."""
    if rung.status is not RungStatus.DONE:
        return False
    return not has_scores or (rung.measured is not None and rung.measured.kl_divergence is not None)


def _description(run: Run) -> str:
    recipe = run.recipe
    return (
        f"{run.plan_id} on {run.environment.fingerprint}, {len(run.rungs)} rungs, {recipe.requests} requests {recipe.repeats} times, "
        f"seed {recipe.seed}, quality on {recipe.quality_tokens} tokens of {recipe.quality_text}"
    )


def _continues(earlier: Run, fresh: Run) -> bool:
    return (
        earlier.plan_id == fresh.plan_id
        and earlier.environment.fingerprint == fresh.environment.fingerprint
        and earlier.recipe == fresh.recipe
        and earlier.request.workload == fresh.request.workload
        and [rung.techniques for rung in earlier.rungs] == [rung.techniques for rung in fresh.rungs]
    )


def _fresh(ladder: Ladder) -> Run:
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Run(
        id="run-" + hashlib.sha256(f"{ladder.plan_id} {created}".encode()).hexdigest()[:8],
        plan_id=ladder.plan_id,
        title=ladder.title,
        model=ladder.model,
        request=ladder.request,
        environment=ladder.environment,
        recipe=ladder.recipe,
        rungs=tuple(
            Rung(name=step.name, techniques=_names(ladder, index), status=RungStatus.NOT_RUN, predicted=step.predicted)
            for index, step in enumerate(ladder.steps)
        ),
        created=created,
    )


def _chosen(ladder: Ladder, index: int) -> tuple[Chosen, ...]:
    return tuple(technique for step in ladder.steps[: index + 1] for technique in step.techniques)


def _names(ladder: Ladder, index: int) -> tuple[str, ...]:
    return tuple(technique.name for technique in _chosen(ladder, index))


def _job(ladder: Ladder, index: int, out: Path) -> RungJob:
    return RungJob(
        folder=str(ladder.folder),
        draft_folder=str(ladder.draft_folder) if ladder.draft_folder else None,
        techniques=_chosen(ladder, index),
        workload=ladder.request.workload,
        max_sequences=ladder.max_sequences,
        recipe=ladder.recipe,
        text_file=str(ladder.text_file),
        reference_file=str(out / REFERENCE_FILE),
        is_baseline=not ladder.steps[index].techniques,
        dtype=ladder.dtype,
        device=ladder.device,
        threads=ladder.environment.threads,
        memory_limit_bytes=ladder.memory_limit_bytes,
    )


def _rung(ladder: Ladder, index: int, result: JobResult) -> Rung:
    return Rung(
        name=ladder.steps[index].name,
        techniques=_names(ladder, index),
        status=result.status,
        predicted=ladder.steps[index].predicted,
        measured=result.metrics,
        weights=HeldWeights.of(ladder.steps[index].predicted, result.metrics),
        samples=result.samples,
        repeats=result.repeats,
        choices=result.choices,
        pace_s=result.pace_s,
        error=result.error,
        seconds=result.seconds,
    )

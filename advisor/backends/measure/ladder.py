"""The ladder: measures the baseline, then adds one technique at a time; every rung runs in a fresh child process, one at a time."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from advisor.backends.processes.child import WORKER, JobResult, run_job
from advisor.backends.processes.events import Event, Log
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

OnEvent = Callable[[str, Event], None]
"""Called with the rung's name and an event of its child."""


@dataclass(frozen=True, slots=True)
class LadderRung:
    """A rung to measure: the technique that it adds, `None` for the baseline, and its predicted metrics."""

    technique: Chosen | None
    predicted: Metrics

    @property
    def name(self) -> str:
        """The rung's name."""
        return self.technique.name if self.technique else BASELINE


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
        measure = partial(_measured, ladder, out, on_event, cancel=cancel or threading.Event(), timeout_s=rung_timeout_s, worker=worker)
        return _run_rungs(ladder, run, out, measure)


def _run_rungs(ladder: Ladder, run: Run, out: Path, measure: Callable[[int], Rung | None]) -> Run:
    """The run with every unfinished rung measured, until `measure` returns `None`; written after each."""
    write_whole(out / RUN_FILE, run.model_dump_json(indent=1))
    for index in range(len(ladder.steps)):
        if _is_finished(run.rungs[index], has_scores=(out / REFERENCE_FILE).is_file()):
            continue
        if (rung := measure(index)) is None:
            break
        run = run.model_copy(update={"rungs": (*run.rungs[:index], rung, *run.rungs[index + 1 :])})
        write_whole(out / RUN_FILE, run.model_dump_json(indent=1))
    if all(_is_finished(rung, has_scores=True) for rung in run.rungs):
        (out / REFERENCE_FILE).unlink(missing_ok=True)
    return run


def _measured(
    ladder: Ladder, out: Path, on_event: OnEvent, index: int, *, cancel: threading.Event, timeout_s: float, worker: Sequence[str]
) -> Rung | None:
    """A rung, measured in a fresh process; `None` once the run is cancelled."""
    if cancel.is_set():
        return None
    name = ladder.steps[index].name
    log_file = out / LOGS_FOLDER / f"{index:02d}-{name}.log"
    result = run_job(
        _job(ladder, index, out), partial(on_event, name), log_file=log_file, timeout_s=timeout_s, cancel=cancel, worker=worker
    )
    return _rung(ladder, index, result)


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
    return tuple(step.technique for step in ladder.steps[: index + 1] if step.technique)


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
        is_baseline=ladder.steps[index].technique is None,
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
        choices=result.choices,
        pace_s=result.pace_s,
        error=result.error,
        seconds=result.seconds,
    )

"""The ladder: measures the baseline, then adds one technique at a time; a run that was stopped is resumed."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from advisor.backends.measure.ladder_rungs import BASELINE, REFERENCE_FILE, Ladder, OnEvent, names_until
from advisor.backends.measure.rung_runner import RungRunner
from advisor.backends.processes.child import WORKER
from advisor.backends.processes.events import Log
from advisor.backends.processes.folder_lock import locked_folder
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import write_whole
from advisor.profiles.run import RUN_FILE, HeldWeights, Run, Rung, RungStatus, read_run


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
        runner = RungRunner(ladder, out, on_event, cancel or threading.Event(), rung_timeout_s, worker)
        return _run_rungs(ladder, run, out, runner)


def _run_rungs(ladder: Ladder, run: Run, out: Path, runner: RungRunner) -> Run:
    """The run with every unfinished rung measured, until it is cancelled; written after each."""
    write_whole(out / RUN_FILE, run.model_dump_json(indent=1))
    for index in range(len(ladder.steps)):
        if _is_finished(run.rungs[index], has_scores=(out / REFERENCE_FILE).is_file()):
            continue
        measured = runner.measured(index)
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
            Rung(name=step.name, techniques=names_until(ladder, index), status=RungStatus.NOT_RUN, predicted=step.predicted)
            for index, step in enumerate(ladder.steps)
        ),
        created=created,
    )

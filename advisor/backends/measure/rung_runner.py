"""Measures rungs in child processes: one at a time, or the full stack and the baseline with alternating repeats."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from advisor.backends.measure.ladder_rungs import BASELINE, LOGS_FOLDER, REFERENCE_FILE, Ladder, OnEvent, added_until, names_until
from advisor.backends.processes.alternation import Alternation
from advisor.backends.processes.child import JobResult, run_job
from advisor.backends.processes.events import Event, Progress
from advisor.backends.processes.jobs import RungJob
from advisor.profiles.run import HeldWeights, Rung


@dataclass(frozen=True, slots=True)
class RungRunner:
    """Measures rungs in child processes."""

    ladder: Ladder
    out: Path
    on_event: OnEvent
    cancel: threading.Event
    timeout_s: float
    worker: Sequence[str]

    def measured(self, index: int) -> dict[int, Rung]:
        """The rung at `index`, and those that were measured with it, by position; empty once the run is cancelled."""
        if self.cancel.is_set():
            return {}
        last = len(self.ladder.steps) - 1
        if not self.ladder.recipe.interleaved or last == 0:
            return {index: self._alone(index)}
        if last == 1:
            baseline, rung = self._alternating(baseline_too=True)
            return {0: baseline, 1: rung}
        return {index: self._alternating(baseline_too=False)[1]} if index == last else {index: self._alone(index)}

    def _alone(self, index: int) -> Rung:
        name, ladder = self.ladder.steps[index].name, self.ladder
        timed = _LeftOfRun(partial(self.on_event, name), rungs_after=len(ladder.steps) - index - 1)
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


def _job(ladder: Ladder, index: int, out: Path) -> RungJob:
    return RungJob(
        folder=str(ladder.folder),
        draft_folder=str(ladder.draft_folder) if ladder.draft_folder else None,
        techniques=added_until(ladder, index),
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
        techniques=names_until(ladder, index),
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

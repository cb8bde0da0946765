"""A task and a job: long work that can be begun, and such work under way in a thread, looked at from another. Knows no screen."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from advisor.backends.processes.events import Event, OnEvent
from advisor.cli.failures import describe
from advisor.profiles.errors import AdvisorError
from advisor.tui.workers.job_progress import FINISHED, Ending, JobProgress, Stage, Standing

Do = Callable[[OnEvent, threading.Event], object]
"""Does the work, says how it goes, ends soon after the event is set, and gives back what came of it. Raises `AdvisorError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Long work that can be begun."""

    verb: str
    """`profile` or `apply`."""
    title: str
    stages: tuple[Stage, ...]
    """As they stand before it begins."""
    steps: tuple[str, ...] = ()
    do: Do
    folder: Path | None = None
    """Where it writes; `None` for nowhere before it is done."""


def again(task: Task, work: JobProgress) -> Task:
    """The same once more. What work in a folder has finished is kept there; all else begins anew."""

    def fresh(stage: Stage) -> Stage:
        if task.folder is not None and stage.standing in FINISHED:
            return replace(stage, standing=Standing.KEPT)
        return Stage(name=stage.name, options=stage.options)

    return replace(task, stages=tuple(map(fresh, work.stages)))


class Job:
    """A task under way. `work` is a frozen value that the working thread replaces, so any thread may read it."""

    def __init__(self, task: Task, clock: Callable[[], float] = time.monotonic) -> None:
        self.task = task
        self.clock = clock
        self.work = JobProgress(stages=task.stages, steps=task.steps, begun_s=clock())
        self.result: object = None
        self.error: AdvisorError | None = None
        self._cancel = threading.Event()
        self._ended = threading.Event()

    @property
    def running(self) -> bool:
        """Whether anything of it may still run: its child is gone once this is false."""
        return not self._ended.is_set()

    def run(self) -> None:
        """Do the work in this thread. Raises nothing: a failure is how it ended."""
        try:
            self.result = self.task.do(self._hear, self._cancel)
        except Exception as error:  # noqa: BLE001 - the thread's last line: whatever happened is kept as how the work ended
            self.error = describe(error)
        ending, why = self._ending()
        self.work = self.work.end(ending, why)
        self._ended.set()

    def cancel(self) -> None:
        """Ask it to stop; it has once `running` is false."""
        self._cancel.set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop and its child is being ended."""
        return self._cancel.is_set() and self.running

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; whether it has."""
        return self._ended.wait(seconds)

    def left_s(self) -> float | None:
        """Seconds left, where that can be told."""
        return self.work.left(self.clock())

    def _hear(self, event: Event | str) -> None:
        self.work = self.work.on_event(event, self.clock())

    def _ending(self) -> tuple[Ending, str]:
        if self._cancel.is_set() and (self.error is not None or not self.work.complete):
            return Ending.CANCELLED, ""
        if self.error is not None:
            return Ending.FAILED, ". ".join(text[:1].upper() + text[1:] for text in (self.error.message, *self.error.notes))
        return Ending.DONE, ""

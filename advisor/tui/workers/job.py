"""A task is long work that can be started; a job is a task that runs in a thread. Imports no Textual."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from advisor.backends.processes.events import Event, OnEvent
from advisor.cli.failures import describe
from advisor.profiles.errors import AdvisorError
from advisor.tui.workers.job_progress import FINISHED, Ending, JobProgress, Stage, StageStatus

Work = Callable[[OnEvent, threading.Event], object]
"""Does the work: reports progress through the first argument, ends soon after the event is set, returns a result. Raises `AdvisorError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Long work that can be started."""

    verb: str
    """`profile` or `apply`."""
    title: str
    stages: tuple[Stage, ...]
    """Before the work starts."""
    steps: tuple[str, ...] = ()
    """Steps of every stage, in order; empty where a stage is one step."""
    do: Work
    folder: Path | None = None
    """Folder of its results; `None` where results are stored only at the end."""


def again(task: Task, progress: JobProgress) -> Task:
    """The task to run next: finished stages are reused where the task has a folder, all others start afresh."""

    def fresh(stage: Stage) -> Stage:
        if task.folder is not None and stage.status in FINISHED:
            return replace(stage, status=StageStatus.REUSED)
        return Stage(name=stage.name, options=stage.options)

    return replace(task, stages=tuple(map(fresh, progress.stages)))


class Job:
    """A running task. `progress` is a frozen value that the thread of the work replaces, so any thread may read it."""

    def __init__(self, task: Task, clock: Callable[[], float] = time.monotonic) -> None:
        self.task = task
        self.clock = clock
        self.progress = JobProgress(stages=task.stages, steps=task.steps, started_s=clock())
        self.result: object = None
        self.error: AdvisorError | None = None
        self._cancel = threading.Event()
        self._ended = threading.Event()

    @property
    def running(self) -> bool:
        """Whether the work may still run; its child process has ended once this is false."""
        return not self._ended.is_set()

    def run(self) -> None:
        """Do the work in this thread. Raises nothing: a failure becomes the ending of `progress`."""
        try:
            self.result = self.task.do(self._on_event, self._cancel)
        except Exception as error:  # noqa: BLE001 - top of the thread: any error is the ending of the work
            self.error = describe(error)
        ending, why = self._ending()
        self.progress = self.progress.end(ending, why)
        self._ended.set()

    def cancel(self) -> None:
        """Ask the work to stop; it has stopped once `running` is false."""
        self._cancel.set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop and still runs."""
        return self._cancel.is_set() and self.running

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` until the work has ended; returns whether it has."""
        return self._ended.wait(seconds)

    def left_s(self) -> float | None:
        """Seconds left; `None` where they are not known."""
        return self.progress.left(self.clock())

    def _on_event(self, event: Event | str) -> None:
        self.progress = self.progress.on_event(event, self.clock())

    def _ending(self) -> tuple[Ending, str]:
        if self._cancel.is_set() and (self.error is not None or not self.progress.complete):
            return Ending.CANCELLED, ""
        if self.error is not None:
            return Ending.FAILED, ". ".join(text[:1].upper() + text[1:] for text in (self.error.message, *self.error.notes))
        return Ending.DONE, ""

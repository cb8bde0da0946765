"""A tasks whose work is done by the test: each step of a task happens when the test says so."""

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from advisor.backends.processes.events import Event, OnEvent, Progress
from advisor.profiles.errors import AdvisorError
from advisor.tui.app import AdvisorApp
from advisor.tui.workers.job import Task
from advisor.tui.workers.job_progress import Stage
from advisor.tui.workers.machine_tasks import MachineTasks


def progress(step: str, done: int, total: int, left_s: float | None = None) -> Progress:
    return Progress(step=step, done=done, total=total, left_s=left_s)


class ByHand(MachineTasks):
    """Profiles that go as the test says: `say` an event, then `finish` or `fail`."""

    def __init__(self, busy: str | None = None) -> None:
        self._busy = busy
        self._orders: queue.Queue[Event | AdvisorError | None] = queue.Queue()
        self.begun: list[str] = []
        self.gone = threading.Event()

    def other_load(self) -> str | None:
        return self._busy

    def profile(self, *, wait: bool = False) -> Task:
        self.begun.append("waiting profile" if wait else "profile")
        return Task(
            verb="profile", title="Profile [this] machine", stages=(Stage(name="memory bandwidth"), Stage(name="products")), do=self._do
        )

    def say(self, *events: Event) -> None:
        for event in events:
            self._orders.put(event)

    def finish(self) -> None:
        self._orders.put(None)

    def fail(self, error: AdvisorError) -> None:
        self._orders.put(error)

    def _do(self, on_event: OnEvent, cancel: threading.Event) -> object:
        try:
            return self._follow(on_event, cancel)
        finally:
            self.gone.set()

    def _follow(self, on_event: OnEvent, cancel: threading.Event) -> object:
        while True:
            if cancel.is_set():
                raise AdvisorError("profile-failed", "cancelled")
            try:
                order = self._orders.get(timeout=0.02)
            except queue.Empty:
                continue
            if isinstance(order, AdvisorError):
                raise order
            if order is None:
                return "done"
            on_event(order)


async def until(pilot: Pilot[None], holds: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something holds; what runs in threads is not waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await pilot.pause()
        if holds():
            return
        await pilot.pause(0.05)
    assert isinstance(pilot.app, AdvisorApp)
    from tests.tui.driving import frame

    raise AssertionError(f"it never held:\n{frame(pilot.app)}")


def run_folder(folder: Path, run_json: str) -> Path:
    """A folder such as applying leaves."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(run_json, encoding="utf-8")
    return folder

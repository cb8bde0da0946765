"""Runs cases in order of importance within a time budget: checks first, every record on disk as soon as it stands."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from benchmarks.harness.case import Bench, Case
from benchmarks.harness.parts import CHECKS
from benchmarks.harness.record import Record
from benchmarks.harness.store import Store
from benchmarks.harness.summary import one_line
from benchmarks.harness.timing import is_alive

Say = Callable[[str], None]


class DeviceSpoiledError(Exception):
    """The device answers no more in this process; a new one goes on with the next case."""


@dataclass(slots=True)
class Outcome:
    """How a run went; names of cases."""

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Finished by an earlier run in the same environment."""
    failed: list[str] = field(default_factory=list)
    red: list[str] = field(default_factory=list)
    """Checks that failed, and cases that were not timed for it."""
    left: list[str] = field(default_factory=list)
    """There was no time for them, or what they build on was not measured."""


@dataclass(slots=True)
class Runner:
    """One run over cases. `deadline` is by the monotonic clock."""

    store: Store
    bench: Bench
    deadline: float
    say: Say
    retry: bool = False
    """Run again what failed in this environment."""
    total_s: float = 0.0

    def run(self, cases: Sequence[Case]) -> Outcome:
        """Raises `DeviceSpoiledError`, with everything so far on disk."""
        outcome = Outcome()
        for number, case in enumerate(cases, 1):
            title = f"[{number}/{len(cases)}] {case.part}/{case.name}"
            known = self._known(case)
            if known is not None:
                {"done": outcome.kept, "red": outcome.red}.get(known.status, outcome.failed).append(case.name)
            elif self._is_red(case):
                self.store.put(case.part, Record(case=case.name, status="red", environment=self.store.environment.id))
                outcome.red.append(case.name)
                self.say(f"{title}: not timed, a check of {', '.join(case.needs)} is red")
            elif self.left_s < case.seconds or not self._is_ready(case):
                outcome.left.append(case.name)
            else:
                self._run(case, title, outcome)
        return outcome

    @property
    def left_s(self) -> float:
        """Seconds until the budget is used up."""
        return max(0.0, self.deadline - time.monotonic())

    def _known(self, case: Case) -> Record | None:
        """What need not be run again. A case that the process died in is not tried again unless asked."""
        found = self.store.record(case.part, case.name)
        if found is None or (found.status == "red" and case.part != CHECKS) or (self.retry and found.status != "done"):
            return None
        return found

    def _is_red(self, case: Case) -> bool:
        checks = [self.store.record(CHECKS, name) for name in case.needs]
        return any(check is not None and check.status != "done" for check in checks)

    def _is_ready(self, case: Case) -> bool:
        found = [self.store.record(part, name) for part, name in (*case.after, *((CHECKS, name) for name in case.needs))]
        return all(record is not None and record.status == "done" for record in found)

    def _run(self, case: Case, title: str, outcome: Outcome) -> None:
        started = time.monotonic()
        record = Record(case=case.name, status="started", environment=self.store.environment.id)
        self.store.put(case.part, record)
        try:
            measured = case.run(self.bench)
        except Exception as error:  # noqa: BLE001 - whatever a case raises is its result; the others go on
            record = record.model_copy(update={"status": "failed", "notes": (_told(error),)})
        else:
            red = case.part == CHECKS and measured.values.get("red", 0) > 0
            found = {name: getattr(measured, name) for name in ("settings", "work", "timings", "values", "notes")}
            record = record.model_copy(update={**found, "status": "red" if red else "done"})
        record = record.model_copy(update={"took_s": round(time.monotonic() - started, 2)})
        self.store.put(case.part, record)
        {"done": outcome.done, "red": outcome.red}.get(record.status, outcome.failed).append(case.name)
        self.say(f"{title}: {one_line(record)} ({self._left_words()})")
        if record.status == "failed" and not is_alive(self.bench.device):
            raise DeviceSpoiledError(case.name)
        _tidy(self.bench.device)

    def _left_words(self) -> str:
        left, total = int(self.left_s), int(self.total_s)
        return f"{left // 60}:{left % 60:02d} left of {total // 60}:{total % 60:02d}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:500]


def _tidy(device: torch.device) -> None:
    """Give memory back, so that no case meets what another left."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()

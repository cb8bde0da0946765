"""Runs cases in order of importance within a time budget: checks first, every record written as soon as it is complete."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from benchmarks.harness.case import Bench, Case
from benchmarks.harness.parts import CHECKS
from benchmarks.harness.record import Record
from benchmarks.harness.store import Store
from benchmarks.harness.summary import summary_line
from benchmarks.harness.timing import is_alive

Say = Callable[[str], None]


class DeviceSpoiledError(Exception):
    """The device fails in this process; a new process continues with the next case."""


@dataclass(slots=True)
class Outcome:
    """How a run went; names of cases."""

    done: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    """Finished by an earlier run in the same environment."""
    failed: list[str] = field(default_factory=list)
    red: list[str] = field(default_factory=list)
    """Checks that failed, and cases that were not timed because of them."""
    left: list[str] = field(default_factory=list)
    """Cases that did not fit in the time, or that depend on one that was not measured."""


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
            earlier = self._reusable(case)
            if earlier is not None:
                {"done": outcome.reused, "red": outcome.red}.get(earlier.status, outcome.failed).append(case.name)
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

    def _reusable(self, case: Case) -> Record | None:
        """The record of an earlier run that need not be repeated; with `retry`, failed cases are."""
        record = self.store.record(case.part, case.name)
        if record is None or (record.status == "red" and case.part != CHECKS) or (self.retry and record.status != "done"):
            return None
        return record

    def _is_red(self, case: Case) -> bool:
        checks = [self.store.record(CHECKS, name) for name in case.needs]
        return any(check is not None and check.status != "done" for check in checks)

    def _is_ready(self, case: Case) -> bool:
        records = [self.store.record(part, name) for part, name in (*case.after, *((CHECKS, name) for name in case.needs))]
        return all(record is not None and record.status == "done" for record in records)

    def _run(self, case: Case, title: str, outcome: Outcome) -> None:
        started = time.monotonic()
        record = Record(case=case.name, status="started", environment=self.store.environment.id)
        self.store.put(case.part, record)
        try:
            measured = case.run(self.bench)
        except Exception as error:  # noqa: BLE001 - whatever a case raises is its result; the run continues
            record = record.model_copy(update={"status": "failed", "notes": (_error_line(error),)})
        else:
            red = case.part == CHECKS and measured.values.get("red", 0) > 0
            results = {name: getattr(measured, name) for name in ("settings", "work", "timings", "values", "notes")}
            record = record.model_copy(update={**results, "status": "red" if red else "done"})
        record = record.model_copy(update={"took_s": round(time.monotonic() - started, 2)})
        self.store.put(case.part, record)
        {"done": outcome.done, "red": outcome.red}.get(record.status, outcome.failed).append(case.name)
        self.say(f"{title}: {summary_line(record)} ({self._left_words()})")
        if record.status == "failed" and not is_alive(self.bench.device):
            raise DeviceSpoiledError(case.name)
        _tidy(self.bench.device)

    def _left_words(self) -> str:
        left, total = int(self.left_s), int(self.total_s)
        return f"{left // 60}:{left % 60:02d} left of {total // 60}:{total % 60:02d}"


def _error_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:500]


def _tidy(device: torch.device) -> None:
    """Free memory, so that no case is affected by the one before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()

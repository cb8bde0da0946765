"""Measures this machine in a child process and stores the profile."""

import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from advisor.backends.detection.detect import detect, detected_hardware
from advisor.backends.processes.child import WORKER, run_job
from advisor.backends.processes.events import Event, Failed, OnEvent
from advisor.backends.processes.jobs import ProfileJob
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.machine import MachineProfile
from advisor.profiles.run import RungStatus
from advisor.profiles.store import check_writable, save_profile

BUDGET_S = 50.0
TIMEOUT_S = 240.0
_LOG = "profile.log"


def profile_this_machine(
    name: str | None, on_event: OnEvent | None, *, budget_s: float | None = None, cancel: threading.Event | None = None
) -> MachineProfile:
    """Measure this machine, store the profile under `name` (default: the id of its hardware) and return it.

    Raises `AdvisorError`: `not-writable` before anything is measured; `profile-failed` with the last lines of the child's log, and
    nothing is stored.
    """
    check_writable()
    profile = measure_this_machine(name, on_event, budget_s=budget_s, cancel=cancel)
    save_profile(profile)
    return profile


def measure_this_machine(
    name: str | None,
    on_event: OnEvent | None,
    *,
    budget_s: float | None = None,
    cancel: threading.Event | None = None,
    worker: Sequence[str] = WORKER,
) -> MachineProfile:
    """Measure this machine without storing the profile. Raises `AdvisorError` `profile-failed`, also after `cancel` was set."""
    detected = detect()
    hardware = detected_hardware(detected)
    job = ProfileJob(
        name=name or hardware.id,
        threads=detected.host.cpu.usable_cores,
        budget_s=budget_s or BUDGET_S,
    )
    with tempfile.TemporaryDirectory(prefix="advisor-profile-") as folder:
        log = Path(folder) / _LOG
        result = run_job(job, _without_log(on_event), log_file=log, timeout_s=TIMEOUT_S, cancel=cancel, worker=worker)
        if result.status is not RungStatus.DONE or result.profile is None:
            raise AdvisorError(
                "profile-failed",
                f"this machine could not be measured: {result.error or result.status.value}",
                exit_code=ExitCode.DIED,
                notes=(*_without_log_path(result.notes), *_last_lines(log)),
                help=("plan from the data sheet with --profile=none",),
            )
    return result.profile


def _without_log(on_event: OnEvent | None) -> Callable[[Event], None]:
    def forward(event: Event) -> None:
        if on_event is not None:
            on_event(event.model_copy(update={"notes": _without_log_path(event.notes)}) if isinstance(event, Failed) else event)

    return forward


def _without_log_path(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes without the path of the log, which is deleted with its folder."""
    return tuple(note for note in notes if _LOG not in note)


def _last_lines(log: Path) -> tuple[str, ...]:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return tuple(lines[-3:])

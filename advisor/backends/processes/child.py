"""Runs one job in a fresh child process and returns its result, also when it crashes."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from advisor.backends.detection.cgroup import file_text
from advisor.backends.detection.contention import wait_policy
from advisor.backends.detection.host import host_root
from advisor.backends.processes.events import Event, Failed, Finished, Log, Measured, Profiled, QualityMeasured, Ready, Started, parse_event
from advisor.backends.processes.jobs import Job, RungJob
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import open_log
from advisor.profiles.machine import MachineProfile
from advisor.profiles.metrics import Metrics, Sample
from advisor.profiles.quality import QualityReport
from advisor.profiles.run import Repeat, RungStatus

WORKER = ("-m", "advisor.backends.worker")
"""Arguments to the interpreter that start the child."""
REQUIRED = ("torch", "transformers", "safetensors", "tokenizers")
POLL_S = 0.1
GRACE_S = 3.0
"""Seconds from SIGTERM to SIGKILL."""
MAX_LINE_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended, and everything that it reported before."""

    status: RungStatus
    seconds: float
    code: str | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    metrics: Metrics | None = None
    samples: tuple[Sample, ...] = ()
    choices: tuple[str, ...] = ()
    """Choices made by measuring (autotuning), each with its reason."""
    pace_s: float | None = None
    repeats: tuple[Repeat, ...] = ()
    profile: MachineProfile | None = None
    quality: QualityReport | None = None
    packages: dict[str, str] = field(default_factory=dict)


def run_job(
    job: Job,
    on_event: Callable[[Event], None],
    *,
    log_file: Path,
    timeout_s: float = 3600.0,
    cancel: threading.Event | None = None,
    worker: Sequence[str] = WORKER,
    may_begin: Callable[[float], bool] = lambda deadline_s: True,
) -> JobResult:
    """Run `job` in a child process and return how it ended; a crash, a kill, a time-out and a cancellation are results too.

    A job that waits between its parts begins the next one when `may_begin` returns true; it is ended where that returns false, which
    it does at the latest when the clock passes its argument.
    `on_event` receives every event as it arrives; other output of the child goes to `log_file`. When this returns or raises, no
    process of the job is left. Raises `AdvisorError` `runtime-not-installed`, and `not-writable` when the log cannot be opened.
    """
    check_installed()
    started, kills_before = time.monotonic(), _oom_kills()
    child = _start(job, log_file, worker)
    collected = _Collected(on_event)
    try:
        reason = _follow(child, collected, started + timeout_s, cancel or threading.Event(), may_begin)
    finally:
        returncode = _stop(child)
    return collected.result(reason, returncode, time.monotonic() - started, _oom_kills() > kills_before, log_file)


def check_installed() -> None:
    """Raise `AdvisorError` `runtime-not-installed` where packages of the extra `run` are missing, without importing any."""
    missing = [package for package in REQUIRED if find_spec(package) is None]
    if missing:
        raise AdvisorError(
            "runtime-not-installed",
            f"measuring needs {', '.join(missing)}, which this installation of the planner does not have",
            exit_code=ExitCode.MISSING,
            help=("pip install 'advisor[run]'   or, in a checkout: pip install '.[run]'",),
        )


def _start(job: Job, log_file: Path, worker: Sequence[str]) -> "subprocess.Popen[bytes]":
    with open_log(log_file) as log:
        child = subprocess.Popen(
            # -P keeps the working directory off the child's path: a folder called `torch` there must not be imported
            [sys.executable, "-P", *worker, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(job.threads),
            start_new_session=True,
        )
    assert child.stdin
    try:
        child.stdin.write(job.model_dump_json().encode() + b"\n")
        child.stdin.flush()
        if not (isinstance(job, RungJob) and job.waits):
            child.stdin.close()
    except BrokenPipeError:
        pass  # it died before it read its job; `_follow` and `_stop` find out why
    return child


def _environment(threads: int) -> dict[str, str]:
    """The parent's environment with the number of threads, a wait policy, no network, and this package importable."""
    package_parent = str(Path(__file__).resolve().parents[3])
    paths = [package_parent, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return (
        os.environ
        | wait_policy(os.environ, threads)
        | {
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
    )


class _Collected:
    """What a child has reported so far."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self._metrics = Metrics()
        self._samples: tuple[Sample, ...] = ()
        self._choices: tuple[str, ...] = ()
        self._pace_s: float | None = None
        self._repeats: tuple[Repeat, ...] = ()
        self.is_ready = False
        self._profile: MachineProfile | None = None
        self._quality: QualityReport | None = None
        self._packages: dict[str, str] = {}
        self._failed: Failed | None = None
        self._finished = False

    def add(self, line: bytes) -> None:
        """Add a line of output and pass its event on; a line that is no event becomes a `Log`."""
        try:
            event = parse_event(line)
        except ValueError:
            event = Log(text=f"unreadable line from the child: {line[:200].decode(errors='replace')}")
        match event:
            case Started():
                self._packages = event.packages
            case Ready():
                self.is_ready = True
            case Measured():
                self._repeats += event.repeats
                self._metrics = self._metrics.model_copy(update=event.metrics.present())
                self._samples += event.samples
                self._choices += event.choices
                self._pace_s = event.pace_s or self._pace_s
            case Profiled():
                self._profile = event.profile
            case QualityMeasured():
                self._quality = event.report
            case Failed():
                self._failed = event
            case Finished():
                self._finished = True
        self._on_event(event)

    def result(self, reason: str | None, returncode: int, seconds: float, oom_killed: bool, log_file: Path) -> JobResult:
        """The job's result. `reason` is why the parent ended the child: `cancelled`, `timed-out`, or `None` if it did not."""
        status, code, error, notes = self._ending(reason, returncode, seconds, oom_killed, log_file)
        if error and not self._failed:
            self._on_event(Failed(code=code or "child-died", message=error, notes=notes))
        return JobResult(
            status=status,
            seconds=seconds,
            code=code,
            error=error,
            notes=notes,
            metrics=self._metrics if self._metrics.present() else None,
            samples=self._samples,
            choices=self._choices,
            pace_s=self._pace_s,
            repeats=self._repeats,
            profile=self._profile,
            quality=self._quality,
            packages=self._packages,
        )

    def _ending(
        self, reason: str | None, returncode: int, seconds: float, oom_killed: bool, log_file: Path
    ) -> tuple[RungStatus, str | None, str | None, tuple[str, ...]]:
        notes = (f"what it printed is in {log_file.name}",)
        if self._finished and not self._failed:
            return RungStatus.DONE, None, None, ()
        if self._failed:
            status = RungStatus.OUT_OF_MEMORY if self._failed.code == "out-of-memory" else RungStatus.FAILED
            return status, self._failed.code, self._failed.message, self._failed.notes
        if reason == "cancelled":
            return RungStatus.CANCELLED, "cancelled", f"cancelled after {seconds:.0f} s", ()
        if reason == "timed-out":
            return RungStatus.FAILED, "timed-out", f"still running after {seconds:.0f} s and ended", notes
        if oom_killed and returncode == -signal.SIGKILL:
            return RungStatus.OUT_OF_MEMORY, "out-of-memory", "ended by the operating system for lack of memory", notes
        return RungStatus.FAILED, "child-died", f"the child process {_death(returncode)}", notes


def _death(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode} before it was done"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


def _follow(
    child: "subprocess.Popen[bytes]", collected: _Collected, deadline: float, cancel: threading.Event, may_begin: Callable[[float], bool]
) -> str | None:  # fmt: skip
    """Collect lines until the child has ended (returns `None`) or has to be ended (returns why: `cancelled` or `timed-out`)."""
    assert child.stdout
    buffer = b""
    for chunk in _chunks(child):
        if cancel.is_set():
            return "cancelled"
        if time.monotonic() > deadline:
            return "timed-out"
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in filter(None, lines):
            collected.add(line)
        buffer = buffer[:MAX_LINE_BYTES]
        if collected.is_ready and may_begin(deadline):
            collected.is_ready = False
            _let_begin(child)
    if buffer:
        collected.add(buffer)
    return None


def _let_begin(child: "subprocess.Popen[bytes]") -> None:
    """Let a child that waits begin its next part."""
    assert child.stdin
    with contextlib.suppress(BrokenPipeError):  # it died meanwhile
        child.stdin.write(b"\n")
        child.stdin.flush()


def _chunks(child: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """The child's output until it has ended, and an empty chunk after every `POLL_S` without output."""
    assert child.stdout
    descriptor = child.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            ended = _has_ended(child)
            if selector.select(0 if ended else POLL_S):
                chunk = os.read(descriptor, 1 << 16)
                if not chunk and (ended or _ends_within(child, GRACE_S)):
                    return
                yield chunk
            elif ended:
                return
            else:
                yield b""


def _has_ended(child: "subprocess.Popen[bytes]") -> bool:
    """Whether the child has ended, without reaping it, so that its process group's id stays valid."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _ends_within(child: "subprocess.Popen[bytes]", seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not _has_ended(child):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _stop(child: "subprocess.Popen[bytes]") -> int:
    """End the child's process group, SIGTERM first, reap it and return its exit code."""
    if not _has_ended(child):
        _signal_group(child.pid, signal.SIGTERM)
        _ends_within(child, GRACE_S)
    _signal_group(child.pid, signal.SIGKILL)
    if child.stdout:
        child.stdout.close()
    if child.stdin:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    return child.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty
        os.killpg(group, number)


def _oom_kills() -> int:
    """Processes that the kernel has killed for lack of memory, on this machine and in this control group."""
    total = 0
    for name in ("proc/vmstat", "sys/fs/cgroup/memory.events"):
        if kills := re.search(r"^oom_kill (\d+)$", file_text(host_root() / name), re.MULTILINE):
            total += int(kills[1])
    return total

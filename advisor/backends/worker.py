"""The child process: reads one job from standard input and writes events as JSON lines; other output goes to standard error."""

import ctypes
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from advisor.backends.detection.packages import versions
from advisor.backends.model.load import check_folder
from advisor.backends.processes.events import Event, Failed, Finished, Ready, Started
from advisor.backends.processes.jobs import Job, ProfileJob, QualityJob, RungJob, parse_job
from advisor.profiles.errors import AdvisorError, ExitCode

PACKAGES = ("torch", "transformers", "triton", "safetensors", "tokenizers", "numpy")
PR_SET_PDEATHSIG = 1
"""From Linux' `prctl.h`."""

Emit = Callable[[Event], None]


def main() -> ExitCode:
    """Do the job on standard input and return the exit code; every failure is reported as a `Failed` event."""
    emit = _take_standard_output()
    _die_with_parent()
    started = time.monotonic()
    try:
        job = parse_job(sys.stdin.buffer.readline())
        emit(Started(pid=os.getpid(), threads=job.threads, packages=versions(PACKAGES)))
        if isinstance(job, RungJob):
            check_folder(Path(job.folder), job.workload.longest_tokens)
        _prepare(job)
        _work(job, emit, started)
    except AdvisorError as error:
        emit(Failed(code=error.code, message=error.message, notes=error.notes))
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the last line of the process: every failure must become an event
        traceback.print_exc()
        emit(_failure(error))
        return ExitCode.DIED
    emit(Finished(seconds=time.monotonic() - started))
    return ExitCode.OK


def _work(job: Job, emit: Emit, started: float) -> None:
    match job:
        case RungJob():
            from advisor.backends.measure.rung import measure_rung

            measure_rung(job, emit, partial(_wait, emit) if job.waits else _go_on)
        case ProfileJob():
            from advisor.backends.measure.machine_profile import profile_here

            profile_here(job, emit, started)
        case QualityJob():
            from advisor.backends.measure.technique_quality import measure_techniques

            measure_techniques(job, emit)


def _wait(emit: Emit) -> None:
    """Say that a part is done, and wait until the parent lets the next one begin."""
    emit(Ready())
    sys.stdin.buffer.readline()


def _go_on() -> None:
    """Begin the next part at once."""


def _take_standard_output() -> Emit:
    """Write events to a copy of descriptor 1 and redirect that to the log, so that a library's print cannot break a line."""
    channel = os.dup(1)
    os.dup2(2, 1)

    def emit(event: Event) -> None:
        data = event.model_dump_json().encode() + b"\n"
        while data:
            data = data[os.write(channel, data) :]

    return emit


def _die_with_parent() -> None:
    """Have Linux kill this process when its parent ends; exit if the parent has ended already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if len(sys.argv) > 1 and os.getppid() != int(sys.argv[1]):
        raise SystemExit(ExitCode.DIED)


def _prepare(job: Job) -> None:
    """Import the libraries, set the threads and, last, limit the address space to what is mapped now plus the job's limit."""
    import torch
    import transformers

    torch.set_num_threads(job.threads)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    if job.memory_limit_bytes is not None:
        limit = _address_space_bytes() + job.memory_limit_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _failure(error: Exception) -> Failed:
    from advisor.backends.runtime.device.memory import (
        is_out_of_memory,  # imports torch, which every job has done before it can run out of memory
    )

    if is_out_of_memory(error):
        return Failed(code="out-of-memory", message=f"out of memory: {_first_line(error)}")
    return Failed(code="crashed", message=f"{type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


if __name__ == "__main__":
    raise SystemExit(main())

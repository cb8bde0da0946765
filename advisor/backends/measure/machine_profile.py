"""Measures this machine, inside a child process: bandwidth, products, attention, and what the runtime adds to them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from advisor.backends.detection.contention import processors_busy
from advisor.backends.detection.detect import Detected, detect, detected_hardware, fingerprint
from advisor.backends.measure.attention_times import attention_timings
from advisor.backends.measure.bandwidth import copy_bytes_per_s, launch_s, read_bytes_per_s
from advisor.backends.measure.interleave import interleave
from advisor.backends.measure.memory import resident_bytes
from advisor.backends.measure.overheads import Tables, overheads_of, step_timings
from advisor.backends.measure.products import product_timings
from advisor.backends.measure.timing import Clock
from advisor.backends.processes.events import Event, Log, Profiled
from advisor.backends.processes.jobs import PROFILE_STEPS, ProfileJob
from advisor.profiles.interpolate import AttentionTable, GemmTable
from advisor.profiles.machine import MachineProfile

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

PRODUCTS_SHARE, ATTENTION_SHARE, STEPS_SHARE = 0.5, 0.23, 0.27
"""Of the time for timings; what one kind leaves over, the others use."""


def profile_here(job: ProfileJob, emit: Callable[[Event], None], started: float) -> None:
    """Measure in this process and report the profile. `started` is when the process began, by the monotonic clock."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = detect(with_torch=True)
    if device.type == "cpu":
        found = replace(found, gpus=())
    process_bytes = resident_bytes()
    shared = is_shared(found)
    if shared:
        emit(Log(text="other processes are using this machine: timings will be too long; the profile is marked as shared"))
    clock = Clock(started, job.budget_s, emit)
    with torch.inference_mode():
        profile = _measure(job, found, device, clock, process_bytes, shared)
    emit(Profiled(profile=profile))


def _measure(job: ProfileJob, found: Detected, device: "torch.device", clock: Clock, process_bytes: int, shared: bool) -> MachineProfile:
    bandwidth, timings = PROFILE_STEPS
    clock.tell(bandwidth, 0, 1)
    copied, read, launched = copy_bytes_per_s(device), read_bytes_per_s(device), launch_s(device)
    clock.tell(bandwidth, 1, 1)
    products, attention = product_timings(device, PRODUCTS_SHARE), attention_timings(device, ATTENTION_SHARE)
    steps = step_timings(device, STEPS_SHARE)
    pace_s = interleave((products, attention, steps), clock, clock.until(1.0), timings)
    fit = overheads_of(steps.found, Tables(GemmTable(products.found), AttentionTable(attention.found)))
    return MachineProfile(
        name=job.name,
        hardware=detected_hardware(found),
        fingerprint=fingerprint(found),
        taken=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        threads=job.threads,
        shared=shared,
        process_bytes=process_bytes,
        copy_bytes_per_s=copied,
        read_bytes_per_s=read,
        launch_s=launched,
        pace_s=pace_s if device.type == "cpu" else None,
        gemm=tuple(products.found),
        attention=tuple(attention.found),
        runtime=fit.overheads,
        residual_pct=fit.residual_pct,
        environment={name: version(name) for name in ("torch", "transformers")},
    )


def is_shared(found: Detected) -> bool:
    """Whether others keep the device busy: a GPU by its driver, processors by watching them for a moment."""
    if found.gpus:
        return found.gpus[0].busy
    return processors_busy(found.host.cpu.usable_cores)

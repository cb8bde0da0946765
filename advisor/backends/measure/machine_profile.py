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
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import Hardware
from advisor.profiles.interpolate import AttentionTable, GemmTable
from advisor.profiles.machine import MachineProfile

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

CHECKPOINT_DTYPE = "bf16"
"""Type of most checkpoints; a profile is taken in the type that is fastest for it."""
PRODUCTS_SHARE, ATTENTION_SHARE, STEPS_SHARE = 0.5, 0.23, 0.27
"""Shares of the time for timings; time that one kind leaves unused goes to the others."""


def profile_here(job: ProfileJob, emit: Callable[[Event], None], started: float) -> None:
    """Measure this machine in this process and emit its profile. `started` is when the process began, by the monotonic clock."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = detect(with_torch=True)
    if device.type == "cpu":
        machine = replace(machine, gpus=())
    process_bytes = resident_bytes()
    shared = is_shared(machine)
    if shared:
        emit(Log(text="other processes are using this machine: timings will be too long; the profile is marked as shared"))
    clock = Clock(started, job.budget_s, emit)
    with torch.inference_mode():
        profile = _measure(job, machine, device, clock, process_bytes, shared)
    emit(Profiled(profile=profile))


def _measure(job: ProfileJob, machine: Detected, device: "torch.device", clock: Clock, process_bytes: int, shared: bool) -> MachineProfile:
    bandwidth, timings = PROFILE_STEPS
    clock.report(bandwidth, 0, 1)
    copied_per_s, read_per_s, launched_s = copy_bytes_per_s(device), read_bytes_per_s(device), launch_s(device)
    clock.report(bandwidth, 1, 1)
    hardware = detected_hardware(machine)
    dtype = fastest_dtype(hardware)
    products, attention = product_timings(device, PRODUCTS_SHARE, dtype=dtype), attention_timings(device, ATTENTION_SHARE, dtype=dtype)
    steps = step_timings(device, STEPS_SHARE, dtype=dtype)
    pace_s = interleave((products, attention, steps), clock, clock.until(1.0), timings)
    fit = overheads_of(steps.samples, Tables(GemmTable(products.samples), AttentionTable(attention.samples)), dtype)
    return MachineProfile(
        name=job.name,
        hardware=hardware,
        fingerprint=fingerprint(machine),
        taken=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        threads=job.threads,
        shared=shared,
        process_bytes=process_bytes,
        copy_bytes_per_s=copied_per_s,
        read_bytes_per_s=read_per_s,
        launch_s=launched_s,
        pace_s=pace_s if device.type == "cpu" else None,
        gemm=tuple(products.samples),
        attention=tuple(attention.samples),
        runtime=fit.overheads,
        residual_pct=fit.residual_pct,
        environment={name: version(name) for name in ("torch", "transformers")},
    )


def fastest_dtype(hardware: Hardware) -> str:
    """The type of activations in which the runtime is fastest on the device, by its data sheet."""
    return hardware.emulating(load_engine("advisor").cpu.emulated_share).dtypes(CHECKPOINT_DTYPE)[0]


def is_shared(machine: Detected) -> bool:
    """Whether other processes keep the device busy: a GPU according to its driver, processors by watching them for a moment."""
    if machine.gpus:
        return machine.gpus[0].busy
    return processors_busy(machine.host.cpu.usable_cores)

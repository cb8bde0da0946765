"""Checks a kernel on the device against its reference in float64, with uninitialised memory filled with NaN."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from advisor.kernels.kernel import Kernel
from advisor.kernels.registry import KERNELS
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import CHECKS


def check_cases(kernels: tuple[Kernel, ...], *, seconds: float = 8.0, shapes: int | None = None) -> list[Case]:
    """One check for each kernel, on all of its shapes or on the first few."""
    return [Case(part=CHECKS, name=kernel.name, seconds=seconds, run=partial(check, kernel, shapes)) for kernel in kernels]


def kernels_on(kind: str) -> tuple[Kernel, ...]:
    """The kernels that run on a `gpu` or a `cpu`: where an operator has a form of its own for GPUs, one or the other."""
    twins = {kernel.name.removesuffix("-gpu") for kernel in KERNELS if kernel.name.endswith("-gpu")}
    if kind == "gpu":
        return tuple(kernel for kernel in KERNELS if kernel.name not in twins)
    return tuple(kernel for kernel in KERNELS if not kernel.name.endswith("-gpu"))


def gpu_checks(name: str) -> tuple[str, ...]:
    """The kernels behind an operator on a GPU: the one whose name ends on `-gpu` where its form there is a kernel of its own."""
    return (f"{name}-gpu",) if any(kernel.name == f"{name}-gpu" for kernel in KERNELS) else (name,)


def check(kernel: Kernel, shapes: int | None, bench: Bench) -> Measured:
    """The error on each of the kernel's shapes; `red` counts those above its tolerance, not-a-numbers among them."""
    errors = {" ".join(map(str, shape)): error_on(kernel, shape, bench.device) for shape in kernel.shapes[:shapes]}
    red = [shape for shape, error in errors.items() if not error <= kernel.tolerance]
    return Measured(
        settings={"tolerance": kernel.tolerance, "shapes": len(errors)},
        values={"largest_error": max((error for error in errors.values() if error == error), default=0.0), "red": float(len(red))},
        notes=tuple(f"{shape}: error {errors[shape]:.2e} above {kernel.tolerance:.0e}" for shape in red),
    )


def error_on(kernel: Kernel, shape: tuple[Any, ...], device: torch.device) -> float:
    """‖launch − exact‖ / ‖exact‖ on `device`, exact being the reference in float64 on the CPU."""
    arguments = kernel.inputs(*shape)
    exact = kernel.reference(arguments[0].double(), *arguments[1:])
    with poisoned():
        out = kernel.launch(*moved(arguments, device))
    error = out.cpu().double() - exact
    return float(error.norm() / exact.norm().clamp_min(torch.finfo(torch.float64).tiny))


@contextmanager
def poisoned() -> Iterator[None]:
    """Have torch fill what is allocated without a value, as its deterministic mode does: not-a-numbers, or the largest integers."""
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


def moved(value: Any, device: torch.device) -> Any:
    """Arguments with every tensor in them, however deep, on `device`."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple | list):
        return type(value)(moved(part, device) for part in value)
    if isinstance(value, dict):
        return {name: moved(part, device) for name, part in value.items()}
    return value

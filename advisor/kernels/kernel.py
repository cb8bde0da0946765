"""The record by which tests, benchmarks and the estimator know a kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """An operator: its meaning in plain torch, its fast form, and what it costs. A shape is a tuple as in `shapes`."""

    name: str
    reference: Callable[..., torch.Tensor]
    """Plain torch; with the first argument in fp64 it is the exact result."""
    launch: Callable[..., torch.Tensor]
    """The fast form, same arguments."""
    inputs: Callable[..., tuple[Any, ...]]
    """`inputs(*shape)` gives arguments for both, the same ones each time."""
    shapes: tuple[tuple[int, ...], ...]
    """Ordinary and odd shapes that every test and benchmark of the kernel runs."""
    tolerance: float
    """Largest ‖launch − exact‖ / ‖exact‖ that counts as correct."""
    bytes: Callable[..., int]
    """`bytes(*shape)`: least traffic to and from memory, in bytes."""
    flops: Callable[..., int]
    """`flops(*shape)`: multiplications and additions."""


def relative_error(kernel: Kernel, arguments: tuple[Any, ...]) -> float:
    """‖launch − exact‖ / ‖exact‖ on `arguments`, exact being the reference in fp64; NaN stays NaN."""
    exact = kernel.reference(arguments[0].double(), *arguments[1:])
    error = kernel.launch(*arguments).double() - exact
    return float(error.norm() / exact.norm().clamp_min(torch.finfo(torch.float64).tiny))

"""The records by which tests, benchmarks and the estimator know a kernel."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
"""Whether Triton functions run in its interpreter, on CPU tensors. Triton reads the same variable when it decorates a function.

The interpreter multiplies the bit patterns of bfloat16: kernels take a constant `WIDE`, true under it, and compute in float32 then.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One form of a Triton function that is launched in practice, and what its machine code may take."""

    name: str
    function: Any
    """The `triton.jit` function."""
    types: Mapping[str, str]
    """Triton's types of the arguments that are not constants, as `*bf16` or `i32`; pointers are 16-byte aligned."""
    constants: Mapping[str, Any]
    warps: int
    stages: int
    aligned: tuple[str, ...] = ()
    """Integer arguments that are always multiples of 16."""
    elements: int = 0
    """Elements of cache or weights that one trip of the longest loop handles; 0 where instructions are not counted."""
    slots_per_element: float | None = None
    """Most issue slots of the longest loop per such element and lane: those of memory traffic at full speed, where that is the aim."""
    registers: int = 255
    shared_bytes: int = 99 * 1024
    """Most shared memory of a block: 99 KiB on compute capability 8.9, 163 on 8.0, 227 on 9.0."""
    multiplies: bool = False
    """Whether the code must hold matrix instructions."""
    architectures: tuple[int, ...] = (80, 89, 90)
    """Compute capabilities, times ten, that it is launched on."""


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
    shapes: tuple[tuple[Any, ...], ...]
    """Ordinary and odd shapes that every test and benchmark of the kernel runs."""
    tolerance: float
    """Largest ‖launch − exact‖ / ‖exact‖ that counts as correct."""
    bytes: Callable[..., int]
    """`bytes(*shape)`: least traffic to and from memory, in bytes."""
    flops: Callable[..., int]
    """`flops(*shape)`: multiplications and additions."""
    variants: tuple[Variant, ...] = field(default=())
    """Every form of its Triton functions that is launched; empty for operators without one."""


def relative_error(kernel: Kernel, arguments: tuple[Any, ...]) -> float:
    """‖launch − exact‖ / ‖exact‖ on `arguments`, exact being the reference in fp64; NaN stays NaN."""
    exact = kernel.reference(arguments[0].double(), *arguments[1:])
    error = kernel.launch(*arguments).double() - exact
    return float(error.norm() / exact.norm().clamp_min(torch.finfo(torch.float64).tiny))

"""Records of a kernel for tests, benchmarks and compilation ahead of time."""

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
    """A Triton function with the constants that a launch gives it, and the budget of its machine code."""

    name: str
    function: Any
    """The `triton.jit` function."""
    types: Mapping[str, str]
    """Triton's types of the arguments that are not constants, such as `*bf16` or `i32`; pointers are 16-byte aligned."""
    constants: Mapping[str, Any]
    warps: int
    stages: int
    aligned: tuple[str, ...] = ()
    """Integer arguments that are always multiples of 16."""
    elements: int = 0
    """Elements of cache or weights per iteration of the longest loop; 0 if instructions are not counted."""
    slots_per_element: float | None = None
    """Most issue slots of the longest loop per element and lane: as many as pass while the element is read at full memory speed."""
    registers: int = 255
    shared_bytes: int = 99 * 1024
    """Most shared memory of a block: 99 KiB on compute capability 8.9, 163 on 8.0, 227 on 9.0."""
    multiplies: bool = False
    """Whether the code must contain matrix instructions."""
    architectures: tuple[int, ...] = (80, 89, 90)
    """Compute capabilities, times ten, that it is launched on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """An operator: its definition in plain torch, its fast form, and its cost. A shape is a tuple of arguments of `inputs`."""

    name: str
    reference: Callable[..., torch.Tensor]
    """The definition in plain torch; exact if the first argument is float64."""
    launch: Callable[..., torch.Tensor]
    """The fast form, with the same arguments."""
    inputs: Callable[..., tuple[Any, ...]]
    """`inputs(*shape)`: arguments of both, the same at every call."""
    shapes: tuple[tuple[Any, ...], ...]
    """Ordinary and odd shapes on which the kernel is tested and checked before it is timed."""
    tolerance: float
    """Largest correct ‖launch − exact‖ / ‖exact‖."""
    bytes: Callable[..., int]
    """`bytes(*shape)`: least traffic to and from memory, in bytes."""
    flops: Callable[..., int]
    """`flops(*shape)`: multiplications and additions."""
    variants: tuple[Variant, ...] = field(default=())
    """The variants of its Triton functions that are compiled ahead of time; empty for operators without one."""


def relative_error(kernel: Kernel, arguments: tuple[Any, ...]) -> float:
    """‖launch − exact‖ / ‖exact‖ on `arguments`, where exact is the reference in float64; NaN if either is."""
    exact = kernel.reference(arguments[0].double(), *arguments[1:])
    error = kernel.launch(*arguments).double() - exact
    return float(error.norm() / exact.norm().clamp_min(torch.finfo(torch.float64).tiny))

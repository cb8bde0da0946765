"""The kernels of the registry by name, so that tests are collected without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advisor.kernels.kernel import Kernel

SHAPES: dict[str, tuple[int, tuple[int, int]]] = {
    "int8-linear": (8, (0, 4)),
    "int4-linear": (8, (0, 3)),
    "int8-linear-gpu": (9, (0, 4)),
    "int4-linear-gpu": (11, (0, 4)),
    "add-rmsnorm": (6, (0, 4)),
    "silu-mul": (6, (0, 4)),
    "paged-decode": (16, (0, 13)),
    "kv-write": (12, (0, 11)),
    "block-sparse-prefill": (7, (0, 1)),
}
"""How many shapes each kernel is tested on, and the indices of an ordinary and of an odd one, which the default run takes."""
COMPILED = ("int8-linear-gpu", "int4-linear-gpu", "add-rmsnorm", "silu-mul", "paged-decode", "kv-write", "block-sparse-prefill")
"""Those that are compiled ahead of time."""


def kernel_named(name: str) -> Kernel:
    """The kernel of the registry. Raises `StopIteration` where there is none."""
    from advisor.kernels.registry import KERNELS

    return next(kernel for kernel in KERNELS if kernel.name == name)

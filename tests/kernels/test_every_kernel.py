"""What holds for every kernel of the registry."""

from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_map

from advisor.kernels.kernel import Kernel, relative_error
from advisor.kernels.registry import KERNELS

CASES = [pytest.param(kernel, shape, id=f"{kernel.name}-{'x'.join(map(str, shape))}") for kernel in KERNELS for shape in kernel.shapes]


@pytest.mark.parametrize(("kernel", "shape"), CASES)
def test_launch_agrees_with_the_reference_in_fp64(kernel: Kernel, shape: tuple[Any, ...]) -> None:
    arguments = kernel.inputs(*shape)
    error = relative_error(kernel, arguments)
    assert error <= kernel.tolerance, f"{kernel.name} {shape}: error {error:.2e}, allowed {kernel.tolerance:.0e}"


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_costs_of_every_shape_are_known(kernel: Kernel) -> None:
    for shape in kernel.shapes:
        assert kernel.bytes(*shape) >= 0
        assert kernel.flops(*shape) >= 0


@pytest.mark.gpu
@pytest.mark.parametrize(("kernel", "shape"), CASES)
def test_launch_on_a_gpu_agrees_with_the_reference_in_fp64(kernel: Kernel, shape: tuple[Any, ...]) -> None:
    arguments = tree_map(lambda given: given.cuda() if isinstance(given, torch.Tensor) else given, kernel.inputs(*shape))
    error = relative_error(kernel, arguments)
    assert error <= kernel.tolerance, f"{kernel.name} {shape}: error {error:.2e}, allowed {kernel.tolerance:.0e}"

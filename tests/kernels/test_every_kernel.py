"""What holds for every kernel of the registry."""

import pytest

from tests.kernels.registered import COMPILED, SHAPES, kernel_named

CASES = [
    pytest.param(name, index, id=f"{name}-{index}", marks=() if index in default else pytest.mark.slow)
    for name, (count, default) in SHAPES.items()
    for index in range(count)
]
EVERY_CASE = [pytest.param(name, index, id=f"{name}-{index}") for name, (count, _) in SHAPES.items() for index in range(count)]


def test_every_kernel_and_shape_is_tested() -> None:
    from advisor.kernels.registry import KERNELS

    assert {kernel.name: len(kernel.shapes) for kernel in KERNELS} == {name: count for name, (count, _) in SHAPES.items()}
    assert [kernel.name for kernel in KERNELS if kernel.variants] == list(COMPILED)


@pytest.mark.parametrize(("name", "index"), CASES)
def test_launch_agrees_with_the_reference_in_fp64(name: str, index: int) -> None:
    from advisor.kernels.kernel import relative_error

    kernel = kernel_named(name)
    shape = kernel.shapes[index]
    error = relative_error(kernel, kernel.inputs(*shape))
    assert error <= kernel.tolerance, f"{name} {shape}: error {error:.2e}, allowed {kernel.tolerance:.0e}"


@pytest.mark.parametrize("name", SHAPES)
def test_costs_of_every_shape_are_computable(name: str) -> None:
    kernel = kernel_named(name)
    for shape in kernel.shapes:
        assert kernel.bytes(*shape) >= 0
        assert kernel.flops(*shape) >= 0


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "index"), EVERY_CASE)
def test_launch_on_a_gpu_agrees_with_the_reference_in_fp64(name: str, index: int) -> None:
    import torch

    from advisor.kernels.kernel import relative_error
    from benchmarks.harness.checks import moved

    kernel = kernel_named(name)
    shape = kernel.shapes[index]
    error = relative_error(kernel, moved(kernel.inputs(*shape), torch.device("cuda")))
    assert error <= kernel.tolerance, f"{name} {shape}: error {error:.2e}, allowed {kernel.tolerance:.0e}"

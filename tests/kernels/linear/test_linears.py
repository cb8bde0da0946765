"""Quantised linears: exact packing, bounded quantisation error, and operators that agree with fp64."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.registered import kernel_named

if TYPE_CHECKING:
    import torch


LINEARS = pytest.mark.parametrize("name", ["int8-linear", "int4-linear"])
GROUP_SIZES = (32, 64, 128, 256)
ROUNDING = 2**-8
"""Largest relative error of rounding to bf16."""


@LINEARS
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_launch_takes_every_float_type_and_any_stride(name: str, dtype: str) -> None:
    import torch

    from advisor.kernels.kernel import relative_error

    kernel = kernel_named(name)
    x, *weights = kernel.inputs(*kernel.shapes[2])
    strided = torch.stack([x, x], dim=-1)[..., 0].to(getattr(torch, dtype)).expand(3, *x.shape)
    assert not strided.is_contiguous()
    out = kernel.launch(strided, *weights)
    assert out.dtype == getattr(torch, dtype)
    assert out.shape[:2] == (3, x.shape[0])
    assert relative_error(kernel, (strided, *weights)) <= kernel.tolerance


@LINEARS
def test_both_paths_give_the_same_rows(name: str) -> None:
    import torch

    kernel = kernel_named(name)
    x, *weights = kernel.inputs(100, *kernel.shapes[0][1:])
    few = torch.cat([kernel.launch(row, *weights) for row in x.split(4)])
    many = kernel.launch(x, *weights)
    assert float((few - many).double().norm() / many.double().norm()) <= kernel.tolerance


@LINEARS
def test_launch_leaves_its_inputs_alone(name: str) -> None:
    import torch

    kernel = kernel_named(name)
    for shape in (kernel.shapes[0], (100, *kernel.shapes[0][1:])):
        arguments = kernel.inputs(*shape)
        before = [tensor.clone() for tensor in arguments]
        kernel.launch(*arguments)
        assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))


@LINEARS
def test_bytes_are_those_of_the_tensors(name: str) -> None:
    kernel = kernel_named(name)
    for shape in kernel.shapes[:3]:
        arguments = kernel.inputs(*shape)
        expected = sum(tensor.nbytes for tensor in (*arguments, kernel.launch(*arguments)))
        assert kernel.bytes(*shape) == expected


def dequantised(packed: torch.Tensor, scale_zero: torch.Tensor) -> torch.Tensor:
    import torch

    from advisor.kernels.linear import int4_packing

    n, k = packed.shape[0], packed.shape[1] * 2
    return int4_packing.dequantise_int4(packed, scale_zero, torch.empty(k, n, dtype=torch.float64)).t()


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**31))
def test_int4_packing_is_exact(blocks: int, pairs: int, seed: int) -> None:
    import torch

    from advisor.kernels.linear import int4_packing

    nibbles = torch.randint(0, 16, (64 * blocks, 2 * pairs), generator=torch.Generator().manual_seed(seed))
    packed = int4_packing.pack_int4(nibbles)
    assert packed.nbytes * 2 == nibbles.numel()
    assert torch.equal(int4_packing.unpack_int4(packed).long() + 8, nibbles.t())


def test_int4_chunks_of_rows_pack_like_the_whole() -> None:
    import torch

    from advisor.kernels.linear import int4_packing

    nibbles = torch.randint(0, 16, (192, 64))
    assert torch.equal(
        torch.cat([int4_packing.pack_int4(nibbles[start : start + 64]) for start in (0, 64, 128)]), int4_packing.pack_int4(nibbles)
    )


@pytest.mark.parametrize("capability", ["avx2", pytest.param("default", marks=pytest.mark.slow)])
def test_int4_agrees_on_processors_that_pack_otherwise(capability: str) -> None:
    code = (
        "from advisor.kernels.linear.int4_linear import KERNEL; from advisor.kernels.kernel import relative_error;"
        "print(max(relative_error(KERNEL, KERNEL.inputs(*s)) for s in KERNEL.shapes))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "ATEN_CPU_CAPABILITY": capability}, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) <= kernel_named("int4-linear").tolerance


WILD = st.sampled_from([0.0, 1e-30, 1e-4, 1.0, 3e4, 1e30])


@given(st.integers(1, 9), st.integers(1, 70), WILD, WILD, st.integers(0, 2**31))
def test_int8_error_is_half_a_step(n: int, k: int, size: float, offset: float, seed: int) -> None:
    import torch

    from advisor.kernels.linear import int8_packing

    weight = torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * size + offset
    q, scale = int8_packing.quantise_int8(weight)
    error = (weight.double() - q[:, :k].double() * scale.double()[:, None]).abs()
    # the largest weight of a row may stand half a bf16 rounding of the scale beyond level 127
    assert bool((error <= scale.double()[:, None] * (0.5 + 127 * ROUNDING * (q[:, :k].abs() == 127)) + 1e-37).all())
    assert not bool(q[:, k:].any()), "padded columns must be zero"


@given(st.integers(1, 70), st.integers(1, 100), WILD, WILD, st.sampled_from(GROUP_SIZES), st.integers(0, 2**31))
def test_int4_error_is_half_a_step_and_the_rounding_of_zero(n: int, k: int, size: float, offset: float, group: int, seed: int) -> None:
    import torch

    from advisor.kernels.linear import int4_packing

    weight = torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * size + offset
    packed, scale_zero = int4_packing.quantise_int4(weight, group)
    restored = dequantised(packed, scale_zero)[:n, :k]
    scale, zero = scale_zero.double().repeat_interleave(group, dim=0)[:k, :n].unbind(-1)
    # end levels may miss the range by the rounding of the scale (15 steps of it) and of zero
    allowed = scale * (0.5 + 15 * ROUNDING) + zero.abs() * ROUNDING + weight.abs().max() * 1e-6
    assert bool(((weight.double() - restored).abs() <= allowed.t() + 1e-37).all())


def test_int4_keeps_constant_groups_exactly() -> None:
    import torch

    from advisor.kernels.linear import int4_packing

    weight = torch.full((64, 64), 0.40625)
    packed, scale_zero = int4_packing.quantise_int4(weight, 32)
    assert torch.equal(dequantised(packed, scale_zero).float(), weight)


def test_smaller_groups_lose_less() -> None:
    import torch

    from advisor.kernels.linear import int4_packing

    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    losses = [float((dequantised(*int4_packing.quantise_int4(weight, group)) - weight).norm()) for group in GROUP_SIZES]
    assert losses == sorted(losses)
    # a uniform error over a step of (range of 32 normals ≈ 4.1)/15 has deviation 0.079
    assert losses[0] / weight.norm() == pytest.approx(0.079, rel=0.05)


def test_int8_refuses_columns_that_the_operator_would_read_past() -> None:
    import torch

    from advisor.kernels.linear import int8_linear as int8

    q, scale = torch.zeros(8, 40, dtype=torch.int8), torch.ones(8, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"multiple of 16; got x \(2, 40\)"):
        int8.int8_linear(torch.zeros(2, 40), q, scale)


@LINEARS
def test_launch_says_what_it_got(name: str) -> None:
    kernel = kernel_named(name)
    x, weight, scale = kernel.inputs(*kernel.shapes[0])
    wrong = (
        (x[:, 1:], weight, scale),
        (x.int(), weight, scale),
        (x, weight.float(), scale),
        (x, weight.t().contiguous().t(), scale),
        (x, weight, scale.float()),
        (x, weight, scale[:-1]),
        (x, weight, scale.to("meta")),
    )
    for arguments in wrong:
        with pytest.raises(ValueError, match=r"got x \(\d+, \d+\) torch"):
            kernel.launch(*arguments)


def test_int4_refuses_groups_that_the_operator_lacks() -> None:
    import torch

    from advisor.kernels.linear import int4_packing

    with pytest.raises(ValueError, match="32, 64, 128, 256; got 48"):
        int4_packing.quantise_int4(torch.zeros(64, 96), 48)

"""Block-sparse prefill agrees with attention written out under the token-level mask, on every path."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor


Shape = tuple[int, int, int, int, int, int]

SLOW = pytest.mark.slow
PATTERNS: tuple[dict[str, Any], ...] = (
    {"block": 16},
    {"block": 16, "window": 33, "first": 20, "global_tokens": (5, 70)},
    {"block": 64, "window": 17, "first": 1, "random_blocks": 1},
    {"block": 32, "window": 1},
)
"""Fields of a `BlockPattern`."""
SHAPES: tuple[Shape, ...] = ((2, 150, 150, 4, 2, 16), (1, 37, 200, 6, 1, 24), (1, 1, 65, 2, 2, 8))
"""(N, T, L, H, K, D)"""
TRITON_SHAPES: tuple[Shape, ...] = ((1, 37, 37, 4, 2, 16), (1, 37, 150, 4, 2, 24), (2, 70, 200, 4, 2, 80), (1, 40, 70, 6, 2, 8))
"""One for each pattern: heads packed in pairs from blocks of 64 on, widths that are no power of two."""
TRITON_CASES = [
    pytest.param(fields, shape, marks=() if index == 1 else SLOW)
    for index, (fields, shape) in enumerate(zip(PATTERNS, TRITON_SHAPES, strict=True))
]
OPTIONS: tuple[dict[str, Any], ...] = ({}, {"softcap": 5.0}, {"sinks": True}, {"scale": 0.3})


def tensors(n: int, t: int, length: int, h: int, k: int, d: int, dtype: str = "float32") -> tuple[Tensor, Tensor, Tensor]:
    import torch

    generator = torch.Generator().manual_seed(t * 31 + length)
    shapes = ((n, t, h, d), (n, length, k, d), (n, length, k, d))
    query, keys, values = (torch.randn(*shape, generator=generator).to(getattr(torch, dtype)) for shape in shapes)
    return query, keys, values


def with_sinks(options: dict[str, Any], heads: int) -> dict[str, Any]:
    """The options, `sinks` as one logit for each of `heads`."""
    import torch

    return options | ({"sinks": torch.linspace(-2, 3, 6)[:heads]} if "sinks" in options else {})


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fields", PATTERNS, ids=str)
def test_cpu_form_agrees_with_the_reference_in_fp64(fields: dict[str, Any], shape: Shape, options: dict[str, Any]) -> None:
    from advisor.kernels.attention.block_pattern import BlockPattern
    from advisor.kernels.attention.block_sparse_prefill import block_sparse_attention
    from advisor.kernels.attention.block_sparse_torch import block_sparse_reference

    pattern, given = BlockPattern(**fields), with_sinks(options, shape[3])
    query, keys, values = tensors(*shape)
    exact = block_sparse_reference(query.double(), keys, values, pattern, **given)
    out = block_sparse_attention(query, keys, values, pattern, **given)
    assert float((out - exact).norm() / exact.norm()) < 1e-5


def test_cpu_form_agrees_in_bfloat16_and_takes_any_stride() -> None:
    import torch

    from advisor.kernels.attention.block_pattern import BlockPattern
    from advisor.kernels.attention.block_sparse_prefill import block_sparse_attention
    from advisor.kernels.attention.block_sparse_torch import block_sparse_reference

    query, keys, values = tensors(2, 100, 130, 4, 2, 32, "bfloat16")
    q, k, v = (tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (query, keys, values))
    exact = block_sparse_reference(query.double(), keys, values, BlockPattern(**PATTERNS[1]))
    out = block_sparse_attention(q, k, v, BlockPattern(**PATTERNS[1]))
    assert out.dtype == torch.bfloat16
    assert float((out - exact).norm() / exact.norm()) < 1e-2


def test_blocks_that_no_query_sees_are_not_read() -> None:
    import torch

    from advisor.kernels.attention.block_pattern import BlockPattern
    from advisor.kernels.attention.block_sparse_prefill import block_sparse_attention

    query, keys, values = tensors(1, 64, 256, 2, 1, 16)
    pattern = BlockPattern(block=16, window=20, first=3)
    expected = block_sparse_attention(query, keys, values, pattern)
    keys[:, 16:160], values[:, 16:160] = torch.nan, torch.nan
    assert torch.equal(block_sparse_attention(query, keys, values, pattern), expected)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("options", [pytest.param(options, marks=SLOW if "scale" in options else ()) for options in OPTIONS], ids=str)
@pytest.mark.parametrize(("fields", "shape"), TRITON_CASES, ids=str)
def test_triton_form_agrees_with_the_reference_in_fp64(fields: dict[str, Any], shape: Shape, options: dict[str, Any]) -> None:
    from advisor.kernels.attention.block_pattern import BlockPattern
    from advisor.kernels.attention.block_sparse_prefill import launch_block_sparse
    from advisor.kernels.attention.block_sparse_torch import block_sparse_reference

    pattern, given = BlockPattern(**fields), with_sinks(options, shape[3])
    query, keys, values = tensors(*shape)
    exact = block_sparse_reference(query.double(), keys, values, pattern, **given)
    out = launch_block_sparse(query, keys, values, pattern, **given)
    assert float((out - exact).norm() / exact.norm()) < 1e-5


def test_triton_form_in_bfloat16_is_right_to_its_rounding_and_takes_any_stride() -> None:
    from advisor.kernels.attention.block_pattern import BlockPattern
    from advisor.kernels.attention.block_sparse_prefill import launch_block_sparse
    from advisor.kernels.attention.block_sparse_torch import block_sparse_reference

    query, keys, values = tensors(2, 40, 70, 4, 2, 32, "bfloat16")
    q, k, v = (tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (query, keys, values))
    exact = block_sparse_reference(query.double(), keys, values, BlockPattern(**PATTERNS[2]))
    assert float((launch_block_sparse(q, k, v, BlockPattern(**PATTERNS[2])) - exact).norm() / exact.norm()) < 1e-2


def test_triton_form_does_not_read_blocks_that_no_query_sees() -> None:
    import torch

    from advisor.kernels.attention.block_pattern import BlockPattern
    from advisor.kernels.attention.block_sparse_prefill import launch_block_sparse

    query, keys, values = tensors(1, 32, 256, 2, 1, 16)
    pattern = BlockPattern(block=16, window=20, first=3)
    expected = launch_block_sparse(query, keys, values, pattern)
    keys[:, 16:192], values[:, 16:192] = torch.nan, torch.nan
    assert torch.equal(launch_block_sparse(query, keys, values, pattern), expected)


def test_the_last_row_of_a_prompt_is_a_chunk_of_a_single_token() -> None:
    import torch

    from advisor.kernels.attention.block_pattern import BlockPattern
    from advisor.kernels.attention.block_sparse_prefill import launch_block_sparse

    query, keys, values = tensors(1, 90, 90, 4, 2, 16)
    whole = launch_block_sparse(query, keys, values, BlockPattern(**PATTERNS[2]))
    torch.testing.assert_close(launch_block_sparse(query[:, -1:], keys, values, BlockPattern(**PATTERNS[2])), whole[:, -1:])


WRONG: tuple[Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]], ...] = (
    lambda q, k, v: (q[0], k, v),
    lambda q, k, v: (q, k[..., :8], v),
    lambda q, k, v: (q, k[:, :7], v[:, :7]),
    lambda q, k, v: (q[:, :, :3], k, v),
    lambda q, k, v: (q.half(), k, v),
    lambda q, k, v: (q.int(), k.int(), v.int()),
)


@pytest.mark.parametrize("change", WRONG)
def test_it_says_what_it_got(change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]) -> None:
    from advisor.kernels.attention.block_pattern import BlockPattern
    from advisor.kernels.attention.block_sparse_prefill import block_sparse_attention

    with pytest.raises(ValueError, match="got query"):
        block_sparse_attention(*change(*tensors(1, 8, 8, 4, 2, 16)), BlockPattern(**PATTERNS[0]))

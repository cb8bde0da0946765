"""The Triton forms of the integer linears, interpreted: exact packing, any split of K, outliers, and no number from nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.registered import kernel_named

if TYPE_CHECKING:
    from torch import Tensor


LINEARS = pytest.mark.parametrize("name", ["int8-linear-gpu", "int4-linear-gpu"])
SLOW = pytest.mark.slow
GROUP_SIZES = (32, 64, 128, 256)
ROUNDED = 2**-7
"""Relative difference of two bf16 results of the interpreter, which truncates."""


def shape_of(name: str, m: int, n: int, k: int) -> tuple[int, ...]:
    return (m, n, k, 64) if name == "int4-linear-gpu" else (m, n, k)


@LINEARS
@pytest.mark.parametrize("m", [1, 33, *(pytest.param(m, marks=SLOW) for m in (16, 65, 257))])
@pytest.mark.usefixtures("poisoned")
def test_every_number_is_written_before_it_is_read(name: str, m: int) -> None:
    from advisor.kernels.kernel import relative_error

    kernel = kernel_named(name)
    arguments = kernel.inputs(*shape_of(name, m, 70, 384))
    assert relative_error(kernel, arguments) <= kernel.tolerance


@LINEARS
@pytest.mark.parametrize("m", [3, pytest.param(1, marks=SLOW), pytest.param(40, marks=SLOW)])
def test_the_number_of_splits_changes_nothing_but_roundings(name: str, m: int) -> None:
    import torch

    kernel = kernel_named(name)
    arguments = kernel.inputs(*shape_of(name, m, 40, 640))
    outs: list[Tensor] = [kernel.launch(*arguments, splits=splits).float() for splits in (1, 2, 3, 5, 8)]
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0], rtol=ROUNDED, atol=1e-5)


@LINEARS
@pytest.mark.parametrize("m", [5, 300, pytest.param(1, marks=SLOW), pytest.param(40, marks=SLOW)])
def test_a_row_is_independent_of_the_other_rows(name: str, m: int) -> None:
    import torch

    kernel = kernel_named(name)
    x, *weights = kernel.inputs(*shape_of(name, m, 40, 128))
    whole = kernel.launch(x, *weights, splits=1)
    alone = kernel.launch(x[m // 2 :][:1], *weights, splits=1)
    # for many rows weights are rounded to bf16 first
    torch.testing.assert_close(whole[m // 2], alone[0], rtol=2**-6, atol=2**-5)


@LINEARS
@pytest.mark.parametrize("m", [1, pytest.param(20, marks=SLOW), pytest.param(40, marks=SLOW)])
@pytest.mark.parametrize("size", [1e6, pytest.param(3e4, marks=SLOW), pytest.param(1e30, marks=SLOW)])
def test_outliers_beyond_float16_neither_overflow_nor_drown_the_rest(name: str, m: int, size: float) -> None:
    from advisor.kernels.kernel import relative_error

    kernel = kernel_named(name)
    x, *weights = kernel.inputs(*shape_of(name, m, 64, 512))
    x[:, 7] = size
    x[0, 300] = -size
    assert relative_error(kernel, (x, *weights)) <= kernel.tolerance
    quiet = x.clone()
    quiet[0] = 0
    assert not kernel.launch(quiet, *weights)[0].any(), "a row of zeros among outliers is zero"


@LINEARS
def test_activations_of_equal_sign_keep_their_precision(name: str) -> None:
    from advisor.kernels.kernel import relative_error

    kernel = kernel_named(name)
    x, *weights = kernel.inputs(*shape_of(name, 4, 64, 4096))
    assert relative_error(kernel, (x.abs() + 3, *weights)) <= kernel.tolerance


@LINEARS
def test_not_a_number_stays_in_its_row(name: str) -> None:
    kernel = kernel_named(name)
    x, *weights = kernel.inputs(*shape_of(name, 3, 40, 256))
    x[1, 5] = float("nan")
    out = kernel.launch(x, *weights)
    assert bool(out[1].isnan().all())
    assert not bool(out[[0, 2]].isnan().any())


@LINEARS
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=SLOW), pytest.param("bfloat16", marks=SLOW)])
def test_launch_takes_every_float_type_and_any_stride(name: str, dtype: str) -> None:
    import torch

    from advisor.kernels.kernel import relative_error

    kernel = kernel_named(name)
    x, *weights = kernel.inputs(*shape_of(name, 3, 40, 256))
    strided = torch.stack([x, x], dim=-1)[..., 0].to(getattr(torch, dtype)).expand(2, *x.shape)
    assert not strided.is_contiguous()
    out = kernel.launch(strided, *weights)
    assert out.dtype == getattr(torch, dtype)
    assert out.shape == (2, 3, 40)
    assert relative_error(kernel, (strided, *weights)) <= kernel.tolerance


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**31))
def test_int4_words_unpack_to_what_was_packed(n: int, blocks: int, seed: int) -> None:
    import torch

    from advisor.kernels.linear import int4_packing

    nibbles = torch.randint(0, 16, (n, 128 * blocks), generator=torch.Generator().manual_seed(seed))
    words = int4_packing.pack_words(nibbles)
    assert words.nbytes * 2 == nibbles.numel()
    assert torch.equal(int4_packing.unpack_words(words).long(), nibbles)


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**31))
def test_int8_words_unpack_to_what_was_packed(n: int, blocks: int, seed: int) -> None:
    import torch

    from advisor.kernels.linear import int8_packing

    q = torch.randint(-128, 128, (n, 128 * blocks), generator=torch.Generator().manual_seed(seed)).to(torch.int8)
    words = int8_packing.pack_words(q)
    assert words.nbytes == q.nbytes
    assert torch.equal(int8_packing.unpack_words(words), q)


@given(st.integers(1, 130), st.integers(1, 300), st.sampled_from(GROUP_SIZES), st.integers(0, 2**31))
def test_int4_layouts_convert_into_each_other_exactly(n: int, k: int, group: int, seed: int) -> None:
    import torch

    from advisor.kernels.linear import int4_packing

    weight = torch.randn(n, k, generator=torch.Generator().manual_seed(seed))
    packed, scale_zero = int4_packing.quantise_int4(weight, group)
    words, moved = int4_packing.lay_out(packed, scale_zero, "words")
    back, returned = int4_packing.lay_out(words, moved, "operator")
    assert torch.equal(int4_packing.unpack_int4(back)[: 2 * packed.shape[1], : len(packed)], int4_packing.unpack_int4(packed))
    assert torch.equal(returned[: len(scale_zero), : len(packed)], scale_zero)
    assert not bool(returned[len(scale_zero) :].any()), "padded groups weigh nothing"
    made, made_scales = int4_packing.quantise_int4(weight, group, "words")
    assert torch.equal(int4_packing.unpack_words(words)[:n, :k], int4_packing.unpack_words(made)[:, :k])
    assert torch.equal(moved[: len(scale_zero), :n], made_scales[: len(scale_zero)])


@LINEARS
def test_launch_says_what_it_got(name: str) -> None:
    kernel = kernel_named(name)
    x, weight, scale = kernel.inputs(*kernel.shapes[0])
    wrong = (
        (x[:, 1:], weight, scale),
        (x.int(), weight, scale),
        (x, weight.float(), scale),
        (x, weight.t().contiguous().t(), scale),
        (x[:, :64], weight[:, : weight.shape[1] // 4].contiguous(), scale),
        (x, weight, scale.float()),
        (x, weight, scale[:-1]),
        (x, weight, scale.to("meta")),
    )
    for arguments in wrong:
        with pytest.raises(ValueError, match=r"got x \(\d+, \d+\) torch"):
            kernel.launch(*arguments)


def test_few_tiles_are_cut_along_k_until_the_device_is_busy_and_many_are_not() -> None:
    # Llama-3.1-8B: q, k and v; output; gate and up; down; head
    from advisor.kernels.launch_sizes import PROGRAMS
    from advisor.kernels.linear.split_k import MAX_SPLITS, split_count

    assert [split_count(-(-n // 128), k // 128) for n, k in ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (128256, 4096))] == [
        6, 8, 2, 9, 1,
    ]  # fmt: skip
    for tiles in (1, 5, 100, 10_000):
        for blocks in (1, 2, 33, 416):
            splits = split_count(tiles, blocks)
            assert 1 <= splits <= min(MAX_SPLITS, blocks)
            assert tiles * splits <= max(2 * PROGRAMS, tiles)


def test_the_words_are_what_the_plain_operators_multiply_by() -> None:
    import torch

    from advisor.kernels.linear import int4_linear as int4
    from advisor.kernels.linear import int4_packing, int8_packing
    from advisor.kernels.linear import int8_linear as int8
    from advisor.kernels.linear.int4_gpu import int4_words_linear
    from advisor.kernels.linear.int8_gpu import int8_words_linear

    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(48, 256, generator=generator), torch.randn(4, 256, generator=generator).to(torch.bfloat16)
    packed = int4_packing.quantise_int4(weight, 64)
    words = int4_packing.quantise_int4(weight, 64, "words")
    torch.testing.assert_close(int4_words_linear(x, *words), int4.int4_linear(x, *packed)[:, :48], rtol=2**-6, atol=2e-2)
    q, scale = int8_packing.quantise_int8(weight)
    torch.testing.assert_close(
        int8_words_linear(x, int8_packing.pack_words(q), scale), int8.int8_linear(x, q, scale), rtol=2**-6, atol=2e-2
    )

"""The Triton forms of the integer linears, interpreted: exact packing, any split of K, outliers, and no number from nowhere."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from advisor.kernels.kernel import Kernel, relative_error
from advisor.kernels.launch_sizes import PROGRAMS
from advisor.kernels.linear import int4_linear as int4
from advisor.kernels.linear import int4_packing, int8_packing
from advisor.kernels.linear import int8_linear as int8
from advisor.kernels.linear.int4_gpu import KERNEL as INT4
from advisor.kernels.linear.int4_gpu import int4_words_linear
from advisor.kernels.linear.int8_gpu import KERNEL as INT8
from advisor.kernels.linear.int8_gpu import int8_words_linear
from advisor.kernels.linear.split_k import MOST_SPLITS, splits_of
from advisor.kernels.torch_private import INT4_GROUP_SIZES

LINEARS = (INT8, INT4)
EVERY = pytest.mark.parametrize("kernel", LINEARS, ids=lambda kernel: kernel.name)
ROUNDED = 2**-7
"""A bf16 result of the interpreter, which truncates, beside another one."""


def shape_of(kernel: Kernel, m: int, n: int, k: int) -> tuple[int, ...]:
    return (m, n, k) if kernel is INT8 else (m, n, k, 64)


@EVERY
@pytest.mark.usefixtures("poisoned")
def test_every_number_is_written_before_it_is_read(kernel: Kernel) -> None:
    for m in (1, 16, 33, 65, 257):
        arguments = kernel.inputs(*shape_of(kernel, m, 70, 384))
        assert relative_error(kernel, arguments) <= kernel.tolerance, m


@EVERY
@pytest.mark.parametrize("m", [1, 3, 40])
def test_the_number_of_splits_changes_nothing_but_roundings(kernel: Kernel, m: int) -> None:
    arguments = kernel.inputs(*shape_of(kernel, m, 40, 640))
    outs: list[Tensor] = [kernel.launch(*arguments, splits=splits).float() for splits in (1, 2, 3, 5, 8)]
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0], rtol=ROUNDED, atol=1e-5)


@EVERY
@pytest.mark.parametrize("m", [1, 5, 40, 300])
def test_rows_do_not_depend_on_each_other(kernel: Kernel, m: int) -> None:
    x, *weights = kernel.inputs(*shape_of(kernel, m, 40, 128))
    whole = kernel.launch(x, *weights, splits=1)
    alone = kernel.launch(x[m // 2 :][:1], *weights, splits=1)
    # for many rows weights are rounded to bf16 first
    torch.testing.assert_close(whole[m // 2], alone[0], rtol=2**-6, atol=2**-5)


@EVERY
@pytest.mark.parametrize("m", [1, 20, 40])
@pytest.mark.parametrize("size", [3e4, 1e6, 1e30])
def test_outliers_beyond_float16_neither_overflow_nor_drown_the_rest(kernel: Kernel, m: int, size: float) -> None:
    x, *weights = kernel.inputs(*shape_of(kernel, m, 64, 512))
    x[:, 7] = size
    x[0, 300] = -size
    assert relative_error(kernel, (x, *weights)) <= kernel.tolerance
    quiet = x.clone()
    quiet[0] = 0
    assert not kernel.launch(quiet, *weights)[0].any(), "a row of zeros beside outliers is zero"


@EVERY
def test_activations_of_one_sign_lose_nothing_to_the_bias_of_the_weights(kernel: Kernel) -> None:
    x, *weights = kernel.inputs(*shape_of(kernel, 4, 64, 4096))
    assert relative_error(kernel, (x.abs() + 3, *weights)) <= kernel.tolerance


@EVERY
def test_not_a_number_stays_in_its_row(kernel: Kernel) -> None:
    x, *weights = kernel.inputs(*shape_of(kernel, 3, 40, 256))
    x[1, 5] = float("nan")
    out = kernel.launch(x, *weights)
    assert bool(out[1].isnan().all())
    assert not bool(out[[0, 2]].isnan().any())


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_launch_takes_every_float_type_and_any_stride(kernel: Kernel, dtype: torch.dtype) -> None:
    x, *weights = kernel.inputs(*shape_of(kernel, 3, 40, 256))
    strided = torch.stack([x, x], dim=-1)[..., 0].to(dtype).expand(2, *x.shape)
    assert not strided.is_contiguous()
    out = kernel.launch(strided, *weights)
    assert out.dtype == dtype
    assert out.shape == (2, 3, 40)
    assert relative_error(kernel, (strided, *weights)) <= kernel.tolerance


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**31))
def test_int4_words_unpack_to_what_was_packed(n: int, blocks: int, seed: int) -> None:
    nibbles = torch.randint(0, 16, (n, 128 * blocks), generator=torch.Generator().manual_seed(seed))
    words = int4_packing.pack_words(nibbles)
    assert words.nbytes * 2 == nibbles.numel()
    assert torch.equal(int4_packing.unpack_words(words).long(), nibbles)


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**31))
def test_int8_words_unpack_to_what_was_packed(n: int, blocks: int, seed: int) -> None:
    q = torch.randint(-128, 128, (n, 128 * blocks), generator=torch.Generator().manual_seed(seed)).to(torch.int8)
    words = int8_packing.pack_words(q)
    assert words.nbytes == q.nbytes
    assert torch.equal(int8_packing.unpack_words(words), q)


@given(st.integers(1, 130), st.integers(1, 300), st.sampled_from(INT4_GROUP_SIZES), st.integers(0, 2**31))
def test_int4_layouts_turn_into_each_other_exactly(n: int, k: int, group: int, seed: int) -> None:
    weight = torch.randn(n, k, generator=torch.Generator().manual_seed(seed))
    packed, scale_zero = int4_packing.quantise_int4(weight, group)
    words, moved = int4_packing.lay_out(packed, scale_zero, "words")
    back, returned = int4_packing.lay_out(words, moved, "operator")
    assert torch.equal(int4_packing.unpack_int4(back)[: 2 * packed.shape[1], : len(packed)], int4_packing.unpack_int4(packed))
    assert torch.equal(returned[: len(scale_zero), : len(packed)], scale_zero)
    assert not bool(returned[len(scale_zero) :].any()), "padded groups weigh nothing"
    made, known = int4_packing.quantise_int4(weight, group, "words")
    assert torch.equal(int4_packing.unpack_words(words)[:n, :k], int4_packing.unpack_words(made)[:, :k])
    assert torch.equal(moved[: len(scale_zero), :n], known[: len(scale_zero)])


@EVERY
def test_launch_says_what_it_got(kernel: Kernel) -> None:
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
    assert [splits_of(-(-n // 128), k // 128) for n, k in ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (128256, 4096))] == [
        6, 8, 2, 9, 1,
    ]  # fmt: skip
    for tiles in (1, 5, 100, 10_000):
        for blocks in (1, 2, 33, 416):
            splits = splits_of(tiles, blocks)
            assert 1 <= splits <= min(MOST_SPLITS, blocks)
            assert tiles * splits <= max(2 * PROGRAMS, tiles)


def test_the_words_are_what_the_plain_operators_multiply_by() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(48, 256, generator=generator), torch.randn(4, 256, generator=generator).to(torch.bfloat16)
    packed = int4_packing.quantise_int4(weight, 64)
    words = int4_packing.quantise_int4(weight, 64, "words")
    torch.testing.assert_close(int4_words_linear(x, *words), int4.int4_linear(x, *packed)[:, :48], rtol=2**-6, atol=2e-2)
    q, scale = int8_packing.quantise_int8(weight)
    torch.testing.assert_close(
        int8_words_linear(x, int8_packing.pack_words(q), scale), int8.int8_linear(x, q, scale), rtol=2**-6, atol=2e-2
    )

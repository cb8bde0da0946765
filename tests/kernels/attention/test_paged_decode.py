"""Paged decode: every format and option against the definition, and what must not change the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from torch import Tensor

    from advisor.kernels.attention.paged_decode_inputs import PagedDecodeCase


FORMATS = ("bf16", "fp8", "int8", "int4")
CLOSE = 1e-5
"""Relative error in float32: in int4 a constant of 7.5 levels is subtracted from averages that are smaller."""
SLOW = pytest.mark.slow


def small(**changes: Any) -> PagedDecodeCase:
    import torch

    from advisor.kernels.attention.paged_decode_inputs import PagedDecodeCase

    case = PagedDecodeCase(lengths=(17, 5), dtype=torch.float32, kv_heads=1, groups=2, key_width=16, block_tokens=4)
    return replace(case, **changes)


def run(case: PagedDecodeCase, splits: int | None = None, **changed: Any) -> Tensor:
    from advisor.kernels.attention.paged_decode import paged_decode
    from advisor.kernels.attention.paged_decode_inputs import inputs

    *tensors, options = inputs(case)
    out: Tensor = paged_decode(*tensors, **{**options, **changed}, splits=splits)
    return out


def differ(out: Tensor, exact: Tensor) -> float:
    """Largest ‖out − exact‖ / ‖exact‖ of a sequence and query head; NaN stays NaN."""
    error = (out.double() - exact).norm(dim=(1, 3)) / exact.norm(dim=(1, 3)).clamp_min(1e-12)
    return float(error.max())


def error(case: PagedDecodeCase, splits: int | None = None) -> float:
    from advisor.kernels.attention.paged_decode import reference
    from advisor.kernels.attention.paged_decode_inputs import inputs

    query, *tensors, options = inputs(case)
    return differ(run(case, splits), reference(query.double(), *tensors, **options))


@pytest.mark.parametrize("kv_format", FORMATS)
@pytest.mark.parametrize("splits", [pytest.param(1, marks=SLOW), 4])
def test_the_error_of_every_head_is_small_for_any_number_of_splits(kv_format: str, splits: int) -> None:
    import torch

    from advisor.kernels.attention.paged_decode_inputs import PagedDecodeCase

    assert error(PagedDecodeCase(lengths=(1, 37, 97), kv_format=kv_format, dtype=torch.float32, groups=3), splits) < CLOSE


@pytest.mark.parametrize("kv_format", ["bf16", "int4"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"window": 1}, marks=SLOW),
        pytest.param({"window": 20}, marks=SLOW),
        pytest.param({"window": 20, "first": 5}, marks=SLOW),
        pytest.param({"window": 99, "first": 5, "shifted": True}, marks=SLOW),
        {"window": 7, "first": 20, "shifted": True, "sinks": 0.0, "softcap": 5.0},
        pytest.param({"first": 5, "shifted": True}, marks=SLOW),
        pytest.param({"softcap": 5.0}, marks=SLOW),
        pytest.param({"sinks": 30.0}, marks=SLOW),
        pytest.param({"sinks": -30.0}, marks=SLOW),
        pytest.param({"tree": True}, marks=SLOW),
        {"tree": True, "window": 9, "first": 2},
    ],
    ids=str,
)
def test_options_are_those_of_the_definition(kv_format: str, options: dict[str, Any]) -> None:
    case = small(lengths=(3, 16, 33), kv_format=kv_format, width=3, **options)
    assert error(case, 4) < CLOSE


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"window": 3}, marks=SLOW),
        {"window": 9, "first": 5, "shifted": True},
        pytest.param({"width": 4, "tree": True}, marks=SLOW),
    ],
    ids=str,
)
@pytest.mark.parametrize("lengths", [(4, 5, 33), pytest.param((8, 7, 0), marks=SLOW)])
def test_the_newest_block_is_read_from_the_ring(lengths: tuple[int, ...], options: dict[str, Any]) -> None:
    assert error(small(lengths=lengths, kv_format="int4", recent=True, **options), 1) < CLOSE


@pytest.mark.parametrize("kv_format", ["bf16", pytest.param("fp8", marks=SLOW), pytest.param("int8", marks=SLOW), "int4"])
@pytest.mark.parametrize("width", [80, pytest.param(96, marks=SLOW), pytest.param(256, marks=SLOW)])
def test_widths_that_are_padded_or_large(kv_format: str, width: int) -> None:
    assert error(small(kv_format=kv_format, key_width=width, groups=7)) < CLOSE


@pytest.mark.parametrize("kv_format", ["bf16", "int8"])
def test_values_may_be_of_another_width_than_keys(kv_format: str) -> None:
    assert error(small(kv_format=kv_format, key_width=48, value_width=32)) < CLOSE


@pytest.mark.parametrize("block_tokens", [1, 24, pytest.param(64, marks=SLOW)])
def test_blocks_of_any_size(block_tokens: int) -> None:
    assert error(small(lengths=(25, 49), block_tokens=block_tokens), 4) < CLOSE


@pytest.mark.parametrize(("width", "groups"), [(2, 16), pytest.param(16, 4, marks=SLOW), pytest.param(16, 8, marks=SLOW)])
def test_many_query_rows_of_a_head(width: int, groups: int) -> None:
    assert error(small(lengths=(40, 21), width=width, groups=groups, kv_format="int8")) < CLOSE


def test_half_precision_is_rounded_once() -> None:
    # 2^-11 is half a step of float16; the interpreter cuts bfloat16 off, 2^-7
    import torch

    from advisor.kernels.attention.paged_decode_inputs import PagedDecodeCase

    assert error(PagedDecodeCase(lengths=(33, 7))) < 2**-11
    assert error(PagedDecodeCase(lengths=(33, 7), dtype=torch.bfloat16)) < 2**-7


@pytest.mark.parametrize("kv_format", ["bf16", "int8"])
def test_the_reference_is_that_of_paged_attention(kv_format: str) -> None:
    import torch

    from advisor.kernels.attention import paged_attention
    from advisor.kernels.attention.paged_decode import reference
    from advisor.kernels.attention.paged_decode_inputs import inputs
    from advisor.kernels.cache.kv_formats import dequantise

    case = small(kv_format=kv_format, window=9, softcap=5.0, sinks=1.0)
    query, keys, values, tables, lengths, options = inputs(case)
    if kv_format != "bf16":
        keys, values = (
            dequantise(stored, options[name][..., 0], kv_format, torch.float32)
            for stored, name in ((keys, "key_scales"), (values, "value_scales"))
        )
    expected = paged_attention.reference(
        query[:, 0], keys, values, tables, lengths - 1,
        scale=options["scale"], window=case.window, softcap=case.softcap, sinks=options["sinks"],
    )  # fmt: skip
    torch.testing.assert_close(reference(query, *inputs(case)[1:5], **options)[:, 0], expected)


def test_a_padding_row_gives_zeros() -> None:
    import torch

    from advisor.kernels.attention.paged_decode_inputs import PagedDecodeCase

    out = run(PagedDecodeCase(lengths=(0, 5), sinks=0.0), splits=4)
    assert torch.equal(out[0], torch.zeros_like(out[0]))
    assert bool(out[1].ne(0).any())


# a failing case is shown as it was generated: shrinking it takes the interpreter minutes
FEW = settings(max_examples=settings().max_examples // 10, phases=[Phase.generate])
KINDS = st.sampled_from(FORMATS)
LENGTHS = st.tuples(st.integers(3, 24), st.integers(3, 24))


@given(KINDS, LENGTHS, st.randoms(use_true_random=False))
@FEW
def test_where_blocks_lie_does_not_matter(kv_format: str, lengths: tuple[int, int], random: Any) -> None:
    import torch

    from advisor.kernels.attention.paged_decode import paged_decode
    from advisor.kernels.attention.paged_decode_inputs import inputs

    query, keys, values, tables, seen, options = inputs(small(lengths=lengths, kv_format=kv_format))
    order = torch.tensor(random.sample(range(len(keys)), len(keys)))
    scales = {name: options[name] if options[name] is None else options[name][order] for name in ("key_scales", "value_scales")}
    others = torch.where(tables < 0, -1, order.argsort()[tables.clamp_min(0).long()]).int()
    there = paged_decode(query, keys[order], values[order], others, seen, **{**options, **scales})
    assert torch.equal(there, paged_decode(query, keys, values, tables, seen, **options))


@given(KINDS, LENGTHS)
@FEW
def test_the_order_of_sequences_does_not_matter(kv_format: str, lengths: tuple[int, int]) -> None:
    import torch

    from advisor.kernels.attention.paged_decode import paged_decode
    from advisor.kernels.attention.paged_decode_inputs import inputs

    query, keys, values, tables, seen, options = inputs(small(lengths=lengths, kv_format=kv_format))
    swapped = paged_decode(query.flip(0), keys, values, tables.flip(0), seen.flip(0), **options)
    assert torch.equal(swapped.flip(0), paged_decode(query, keys, values, tables, seen, **options))


@given(KINDS, LENGTHS, st.sampled_from([None, 5]))
@FEW
def test_the_number_of_splits_does_not_matter(kv_format: str, lengths: tuple[int, int], window: int | None) -> None:
    case = small(lengths=lengths, kv_format=kv_format, window=window, width=2, sinks=1.0)
    whole = run(case, splits=1)
    for splits in (4, 8):
        assert differ(run(case, splits), whole.double()) < CLOSE


@given(KINDS, LENGTHS, st.sampled_from([None, 6]))
@FEW
def test_verifying_tokens_equals_decoding_them_in_sequence(kv_format: str, lengths: tuple[int, int], window: int | None) -> None:
    from advisor.kernels.attention.paged_decode import paged_decode
    from advisor.kernels.attention.paged_decode_inputs import inputs

    query, keys, values, tables, seen, options = inputs(small(lengths=lengths, kv_format=kv_format, width=3, window=window))
    together = paged_decode(query, keys, values, tables, seen, **options)
    for token in range(3):
        alone = paged_decode(query[:, token : token + 1], keys, values, tables, seen - 2 + token, **options)
        assert differ(together[:, token : token + 1], alone.double()) < CLOSE


@given(st.integers(5, 20))
@FEW
def test_verifying_a_tree_equals_decoding_each_path(length: int) -> None:
    import torch

    from advisor.kernels.attention.paged_decode import paged_decode
    from advisor.kernels.attention.paged_decode_inputs import inputs

    query, keys, values, tables, seen, options = inputs(small(lengths=(length,), width=5, tree=True))
    ancestors = options.pop("ancestors")
    together = paged_decode(query, keys, values, tables, seen, **options, ancestors=ancestors)
    rows = [torch.stack([pool[tables[0, at // 4], :, at % 4] for at in range(length)]) for pool in (keys, values)]
    for token in range(5):
        path = [*range(length - 5), *(length - 5 + other for other in range(5) if int(ancestors[0, token]) >> other & 1)]
        pools = [taken[path].transpose(0, 1).unsqueeze(0).contiguous() for taken in rows]
        alone = paged_decode(query[:, token : token + 1], pools[0], pools[1], tables[:, :1] * 0, seen * 0 + len(path), **options)
        assert differ(together[:, token : token + 1], alone.double()) < CLOSE


@given(KINDS, st.integers(1, 30), st.integers(1, 12), st.integers(0, 6))
@FEW
def test_a_window_is_a_cache_without_the_other_tokens(kv_format: str, length: int, window: int, first: int) -> None:
    import torch

    from advisor.kernels.attention.paged_decode import paged_decode
    from advisor.kernels.attention.paged_decode_inputs import inputs

    query, keys, values, tables, seen, options = inputs(small(lengths=(length,), kv_format=kv_format))
    windowed = paged_decode(query, keys, values, tables, seen, **{**options, "window": window, "first": first})
    visible = [at for at in range(length) if at < first or at >= length - window]

    def taken(pool: Tensor) -> Tensor:
        return torch.stack([pool[tables[0, at // 4], :, at % 4] for at in visible], 1).unsqueeze(0)

    scales = ("key_scales", "value_scales")
    short = options | {name: None if options[name] is None else taken(options[name]) for name in scales}
    alone = paged_decode(query, taken(keys), taken(values), tables[:, :1] * 0, seen * 0 + len(visible), **short)
    assert differ(windowed, alone.double()) < CLOSE


def test_splits_follow_from_the_programs_and_the_longest_cache() -> None:
    from advisor.kernels.attention.paged_decode_forms import SPLITS, splits_for

    assert splits_for(programs=8, reach=32768, tile=64) == 32
    assert splits_for(programs=64, reach=32768, tile=64) == 4
    assert splits_for(programs=1024, reach=32768, tile=64) == 1
    assert splits_for(programs=8, reach=128, tile=64) == 1
    assert splits_for(programs=0, reach=128, tile=64) in SPLITS


def test_a_workspace_is_used_again_whatever_is_left_in_it() -> None:
    import torch

    from advisor.kernels.attention.paged_decode import new_workspace

    whole = run(small())
    workspace = new_workspace(whole).fill_(float("nan"))
    once, again = (run(small(), splits=4, workspace=workspace) for _ in range(2))
    assert torch.equal(once, again)
    assert differ(once, whole.double()) < CLOSE
    with pytest.raises(ValueError, match=r"needs a workspace of 272 float32 on cpu; got 7"):
        run(small(), splits=4, workspace=torch.empty(7))


def test_queries_may_be_part_of_wider_rows() -> None:
    import torch

    from advisor.kernels.attention.paged_decode import paged_decode
    from advisor.kernels.attention.paged_decode_inputs import inputs

    query, *tensors, options = inputs(small())
    wide = torch.full((2, 1, 5, 16), float("nan"))
    wide[:, :, :2] = query
    assert not wide[:, :, :2].is_contiguous()
    assert torch.equal(paged_decode(wide[:, :, :2], *tensors, **options), paged_decode(query, *tensors, **options))


def test_launcher_says_what_it_got() -> None:
    from advisor.kernels.attention.paged_decode import KERNEL, paged_decode
    from advisor.kernels.attention.paged_decode_inputs import PagedDecodeCase

    query, keys, values, tables, lengths, options = KERNEL.inputs(PagedDecodeCase(lengths=(5, 6), kv_format="int8"))
    for wrong in (
        (query[..., 1:], keys, values, tables, lengths),
        (query[:, :, 1:], keys, values, tables, lengths),
        (query.repeat(1, 33, 1, 1), keys, values, tables, lengths),
        (query.transpose(2, 3).contiguous().transpose(2, 3), keys, values, tables, lengths),
        (query, keys.float(), values, tables, lengths),
        (query, keys, values[1:], tables, lengths),
        (query, keys.transpose(1, 2).contiguous().transpose(1, 2), values, tables, lengths),
        (query, keys, values, tables.long(), lengths),
        (query, keys, values, tables, lengths.repeat(2)),
        (query, keys, values, tables, lengths.to("meta")),
    ):
        with pytest.raises(ValueError, match=r"got .*query \(2, \d+, \d, 6\d\) torch.float16"):
            paged_decode(*wrong, **options)
    with pytest.raises(ValueError, match="key_scales"):
        paged_decode(query, keys, values, tables, lengths, **{**options, "key_scales": None})
    with pytest.raises(ValueError, match="choose from bf16, fp8, int8, int4"):
        paged_decode(query, keys, values, tables, lengths, **{**options, "kv_format": "fp4"})


@pytest.mark.gpu
@pytest.mark.parametrize("kv_format", FORMATS)
@pytest.mark.parametrize("options", [{}, {"width": 4, "window": 500, "first": 5, "softcap": 30.0, "sinks": 0.0}, {"width": 16}], ids=str)
def test_a_gpu_gives_the_same_bits_twice_and_the_right_ones(kv_format: str, options: dict[str, Any]) -> None:
    import torch

    from advisor.kernels.attention.paged_decode import paged_decode, reference
    from advisor.kernels.attention.paged_decode_inputs import PagedDecodeCase, inputs
    from benchmarks.harness.checks import moved

    case = PagedDecodeCase(lengths=(1, 4097, 0, 1000), kv_format=kv_format, dtype=torch.bfloat16, key_width=128, **{"width": 1, **options})
    case = replace(case, lengths=tuple(max(length, case.width) if length else 0 for length in case.lengths), recent=kv_format == "int4")
    query, *tensors, options = moved(inputs(case), torch.device("cuda"))
    once, again = (paged_decode(query, *tensors, **options) for _ in range(2))
    assert torch.equal(once, again)
    assert differ(once, reference(query.double(), *tensors, **options)) < 8e-3

"""Paged decode: every format and option against the definition, and what must not change the answer."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from advisor.kernels.paged_decode import KERNEL, SPLITS, new_workspace, paged_decode, reference, splits_for
from advisor.kernels.paged_decode_inputs import Case, inputs

FORMATS = ("bf16", "fp8", "int8", "int4")


def run(case: Case, splits: int | None = None) -> torch.Tensor:
    *tensors, options = inputs(case)
    out: torch.Tensor = paged_decode(*tensors, **options, splits=splits)
    return out


def errors(case: Case, splits: int | None = None) -> torch.Tensor:
    """‖out − exact‖ / ‖exact‖ for every sequence and query head; NaN stays NaN."""
    query, *tensors, options = inputs(case)
    exact = reference(query.double(), *tensors, **options)
    out: torch.Tensor = paged_decode(query, *tensors, **options, splits=splits)
    error: torch.Tensor = (out.double() - exact).norm(dim=(1, 3)) / exact.norm(dim=(1, 3)).clamp_min(1e-12)
    return error


@pytest.mark.parametrize("kv_format", FORMATS)
@pytest.mark.parametrize("splits", [1, 4])
def test_each_head_is_right_whatever_the_split(kv_format: str, splits: int) -> None:
    case = Case(lengths=(1, 37, 97), kv_format=kv_format, dtype=torch.float32, groups=3)
    # float32 throughout; in int4 a constant of 7.5 levels is taken from averages that are smaller
    assert float(errors(case, splits).max()) < 1e-5


@pytest.mark.parametrize("kv_format", ["bf16", "int8"])
@pytest.mark.parametrize("asked", [{"window": 20}, {"window": 20, "first": 5}, {"softcap": 5.0}, {"sinks": 30.0}, {"sinks": -30.0}])
def test_options_are_those_of_the_definition(kv_format: str, asked: dict[str, Any]) -> None:
    case = replace(Case(lengths=(3, 37, 61), kv_format=kv_format, width=3, dtype=torch.float32, groups=2), **asked)
    assert float(errors(case, 4).max()) < 3e-6


def test_a_padding_row_gives_zeros() -> None:
    out = run(Case(lengths=(0, 5)), splits=4)
    assert torch.equal(out[0], torch.zeros_like(out[0]))
    assert bool(out[1].ne(0).any())


def test_splits_follow_from_what_is_known_before_the_lengths() -> None:
    assert splits_for(programs=8, reach=32768, tile=64) == 32
    assert splits_for(programs=64, reach=32768, tile=64) == 4
    assert splits_for(programs=1024, reach=32768, tile=64) == 1
    assert splits_for(programs=8, reach=128, tile=64) == 1
    assert splits_for(programs=0, reach=128, tile=64) in SPLITS


def test_a_workspace_is_used_again_whatever_is_left_in_it() -> None:
    *tensors, options = inputs(Case(lengths=(1, 61)))
    workspace = new_workspace(run(Case(lengths=(1, 61)))).fill_(float("nan"))
    first, second = (paged_decode(*tensors, **options, splits=4, workspace=workspace) for _ in range(2))
    assert torch.equal(first, second)
    assert not bool(first.isnan().any())
    with pytest.raises(ValueError, match=r"needs a workspace of 4160 float32 on cpu; got 7"):
        paged_decode(*tensors, **options, splits=4, workspace=torch.empty(7))


def test_launcher_says_what_it_got() -> None:
    query, keys, values, tables, lengths, options = KERNEL.inputs(Case(lengths=(5,), kv_format="int8"))
    for wrong in (
        (query[..., 1:], keys, values, tables, lengths),
        (query[:, :, 1:], keys, values, tables, lengths),
        (query, keys.float(), values, tables, lengths),
        (query, keys, values[1:], tables, lengths),
        (query, keys.transpose(1, 2), values, tables, lengths),
        (query, keys, values, tables.long(), lengths),
        (query, keys, values, tables, lengths.repeat(2)),
        (query, keys, values, tables, lengths.to("meta")),
    ):
        with pytest.raises(ValueError, match=r"got .*query \(1, 1, \d, 6\d\) torch.float16"):
            paged_decode(*wrong, **options)
    with pytest.raises(ValueError, match="key_scales"):
        paged_decode(query, keys, values, tables, lengths, **{**options, "key_scales": None})
    with pytest.raises(ValueError, match="choose from bf16, fp8, int8, int4"):
        paged_decode(query, keys, values, tables, lengths, **{**options, "kv_format": "fp4"})

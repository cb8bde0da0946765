"""KV write: rotary positions as in transformers, rounding as the formats say, every slot and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor


FORMATS = ("bf16", "fp8", "int8", "int4")
T, K, G, S = 21, 2, 3, 16
SLOW = pytest.mark.slow


def rows(*shape: int, dtype: str = "float16", seed: int = 0) -> Tensor:
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(getattr(torch, dtype))


def cache(kv_format: str, width: int, dtype: str = "float16", blocks: int = 4) -> tuple[Tensor, Tensor | None]:
    """Blocks with all bits set: not a number where the format has one."""
    import torch

    from advisor.kernels.cache import kv_formats

    if kv_format == "bf16":
        return torch.full((blocks, K, S, width), float("nan"), dtype=getattr(torch, dtype)), None
    stored = torch.full((blocks, K, S, kv_formats.stored_width(kv_format, width)), 255, dtype=torch.uint8)
    return stored.view(kv_formats.stored_dtype(kv_format)), torch.full((blocks, K, S, 1), float("nan"), dtype=torch.float16)


def written(write: Callable[..., None], kv_format: str, key: Tensor, value: Tensor, slots: Tensor, **options: Any) -> list[Tensor]:
    """Bytes of keys, values and their scales after `write` on an empty cache."""
    import torch

    keys, key_scales = cache(kv_format, key.shape[2], str(key.dtype).removeprefix("torch."))
    values, value_scales = cache(kv_format, value.shape[2], str(key.dtype).removeprefix("torch."))
    write(key, value, slots, keys, values, kv_format=kv_format, key_scales=key_scales, value_scales=value_scales, **options)
    return [part.view(torch.uint8) for part in (keys, values, key_scales, value_scales) if part is not None]


def slots_with_gaps() -> Tensor:
    import torch

    slots = torch.randperm(4 * S, generator=torch.Generator().manual_seed(0))[:T]
    slots[::5] = -1
    return slots


@pytest.mark.parametrize("kv_format", FORMATS)
@pytest.mark.parametrize("dtype", ["float16", pytest.param("float32", marks=SLOW)])
@pytest.mark.parametrize(("width", "rotary"), [(64, 64), (80, 32), pytest.param(96, 0, marks=SLOW)])
def test_every_bit_is_that_of_the_definition(kv_format: str, dtype: str, width: int, rotary: int) -> None:
    from advisor.kernels.cache.kv_write import kv_write, reference

    key, value, slots = rows(T, K, width, dtype=dtype), rows(T, K, 48, dtype=dtype, seed=1), slots_with_gaps()
    angles = rows(T, rotary, dtype="float32")
    rotation = {"cos": angles.cos().to(key.dtype), "sin": angles.sin().to(key.dtype)} if rotary else {}
    ours, theirs = (written(write, kv_format, key, value, slots, **rotation) for write in (kv_write, reference))
    for got, expected in zip(ours, theirs, strict=True):
        # sums of a rotation are added in another order: of a thousand levels one may stand at a tie and fall to the other side
        different = int((got != expected).sum())
        assert different == 0 if kv_format != "int4" else different <= got.numel() / 1000


@pytest.mark.parametrize("kv_format", FORMATS)
def test_rows_are_those_of_quantise(kv_format: str) -> None:
    import torch

    from advisor.kernels.cache import kv_formats
    from advisor.kernels.cache.kv_write import kv_write

    key, value, slots = rows(T, K, 32), rows(T, K, 32, seed=1), torch.arange(T)
    keys, scales = cache(kv_format, 32)
    values, value_scales = cache(kv_format, 32)
    kv_write(key, value, slots, keys, values, kv_format=kv_format, key_scales=scales, value_scales=value_scales)
    there = keys[slots // S, :, slots % S]
    if scales is None:
        assert torch.equal(there, key)
        return
    levels, expected = kv_formats.quantise(kv_formats.rotate(key.float()) if kv_format == "int4" else key, kv_format)
    assert torch.equal(there.view(torch.uint8), levels.view(torch.uint8))
    assert torch.equal(scales[slots // S, :, slots % S, 0], expected)


def test_all_numbers_of_fp8_and_the_ties_between_them() -> None:
    import torch

    from advisor.kernels.cache.kv_write import kv_write

    numbers = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    between = (numbers[1:] + numbers[:-1]) / 2
    row = torch.cat([numbers, between, -numbers, -between, torch.tensor([448.0, 0.0, 1e-9, -1e-9, 447.9, -448.0])])  # scale 1
    key = row.reshape(1, 2, -1)
    key[..., -1] = 448.0
    keys, scales = (torch.zeros(1, 2, 1, key.shape[2], dtype=torch.float8_e4m3fn), torch.zeros(1, 2, 1, 1, dtype=torch.float16))
    values, value_scales = keys.clone(), scales.clone()
    kv_write(
        key, key, torch.zeros(1, dtype=torch.int64), keys, values, kv_format="fp8", key_scales=scales, value_scales=value_scales
    )  # fmt: skip
    assert torch.equal(scales.flatten(), torch.ones(2, dtype=torch.float16))
    assert torch.equal(keys[0, :, 0].view(torch.uint8), key[0].to(torch.float8_e4m3fn).view(torch.uint8))


def test_rows_are_rotated_by_position_as_in_transformers() -> None:
    import torch
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    from advisor.kernels.cache.kv_write import kv_write

    query, key, angles = rows(T, K * G, 64), rows(T, K, 64, seed=1), rows(T, 32, dtype="float32").repeat(1, 2)
    cos, sin = angles.cos().half(), angles.sin().half()
    rotated, expected = apply_rotary_pos_emb(query.transpose(0, 1)[None], key.transpose(0, 1)[None], cos[None], sin[None])
    keys, _ = cache("bf16", 64)
    kv_write(key, key, torch.arange(T), keys, keys.clone(), cos=cos, sin=sin, query=query)
    assert torch.equal(query, rotated[0].transpose(0, 1))
    assert torch.equal(keys.transpose(1, 2).flatten(0, 1)[:T], expected[0].transpose(0, 1))


def test_tokens_without_a_slot_write_nothing_but_their_query() -> None:
    import torch

    from advisor.kernels.cache.kv_write import kv_write

    query, cos, sin = rows(T, K, 32), rows(T, 32), rows(T, 32, seed=1)
    before = query.clone()
    parts = written(kv_write, "int8", rows(T, K, 32), rows(T, K, 32), torch.full((T,), -1), query=query, cos=cos, sin=sin)
    assert all(torch.equal(part, empty) for part, empty in zip(parts[:2], [part.clone().fill_(255) for part in parts[:2]], strict=True))
    assert bool((query != before).any(dim=2).all())


def test_new_rows_may_be_part_of_a_joined_projection() -> None:
    import torch

    from advisor.kernels.cache.kv_write import kv_write, reference

    joined = rows(T, (K * G + 2 * K) * 32)
    query, key, value = (part.reshape(T, -1, 32) for part in torch.split(joined, [K * G * 32, K * 32, K * 32], 1))
    cos, sin = rows(T, 32), rows(T, 32, seed=1)
    expected = written(reference, "int8", key, value, torch.arange(T), cos=cos, sin=sin)
    before = value.clone()
    parts = written(kv_write, "int8", key, value, torch.arange(T), cos=cos, sin=sin, query=query)
    assert all(torch.equal(part, other) for part, other in zip(parts, expected, strict=True))
    assert torch.equal(value, before)


@pytest.mark.parametrize("kv_format", FORMATS)
def test_what_is_written_is_what_decoding_reads(kv_format: str) -> None:
    """Tokens one by one into a cache, then attention of the last; against plain attention over the rows as they were."""
    import torch

    from advisor.kernels.attention import paged_decode as decode
    from advisor.kernels.cache import kv_formats
    from advisor.kernels.cache.kv_write import kv_write

    length, dtype = 21, "float32"
    key, value, query = (rows(length, heads, 32, dtype=dtype, seed=seed) for seed, heads in enumerate((K, K, K * G)))
    keys, key_scales = cache(kv_format, 32, dtype)
    values, value_scales = cache(kv_format, 32, dtype)
    scales: dict[str, Any] = {"kv_format": kv_format, "key_scales": key_scales, "value_scales": value_scales}
    positions, table = torch.arange(length), torch.tensor([3, 1])
    slots = table[positions // S] * S + positions % S
    rings = (torch.full((2, 2, K, S, 32), float("nan")), torch.full((2, 2, K, S, 32), float("nan")))
    ring: dict[str, Any] = {"recent": (*rings, (2 + positions // S % 2).int())} if kv_format == "int4" else {}
    exact = torch.softmax(torch.einsum("hd,lhd->hl", query[-1], key.repeat_interleave(G, 1)) * 32**-0.5, 1)
    expected = torch.einsum("hl,lhd->hd", exact, value.repeat_interleave(G, 1))
    queries = query.clone()
    kv_write(key, value, slots, keys, values, query=queries, **scales, **ring)
    ring = {"recent": (*rings, torch.tensor([1], dtype=torch.int32))} if kv_format == "int4" else {}
    tables, lengths = table[None].int(), torch.tensor([length], dtype=torch.int32)
    out = decode.paged_decode(queries[-1:, None], keys, values, tables, lengths, scale=32**-0.5, **scales, **ring)[0, 0]
    if kv_format == "int4":
        out = kv_formats.rotate(out)
    allowed = {"bf16": 1e-6, "int8": 0.01, "fp8": 0.05, "int4": 0.12}[kv_format]
    assert float((out - expected).norm() / expected.norm()) < allowed


def test_launcher_says_what_it_got() -> None:
    from advisor.kernels.cache.kv_write import KERNEL, kv_write

    key, value, slots, keys, values, options = KERNEL.inputs("int8", 5, 2, 2, 64, 64, 64)
    for wrong in (
        (key[..., 1:], value, slots, keys, values),
        (key, value[1:], slots, keys, values),
        (key, value, slots.int(), keys, values),
        (key, value, slots, keys.float(), values),
        (key, value, slots, keys, values[1:]),
    ):
        with pytest.raises(ValueError, match=r"got key \(5, 2, 6\d\) torch.float16"):
            kv_write(*wrong, **options)
    for name in ("key_scales", "sin"):
        with pytest.raises(ValueError, match=name):
            kv_write(key, value, slots, keys, values, **{**options, name: None})
    with pytest.raises(ValueError, match="even number"):
        kv_write(key, value, slots, keys, values, **{**options, "cos": options["cos"][:, 1:], "sin": options["sin"][:, 1:]})
    with pytest.raises(ValueError, match="choose from bf16, fp8, int8, int4"):
        kv_write(key, value, slots, keys, values, **{**options, "kv_format": "fp4"})

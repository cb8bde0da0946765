"""Writes new keys and values to a paged cache in one launch: rotary positions, Hadamard rotation, rounding to the format, scatter.

Letters: T tokens, H query heads, K key-value heads, D key width, E value width, R rotary width, P blocks of S tokens, N rows of the ring.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from advisor.kernels import arguments
from advisor.kernels.cache import kv_formats
from advisor.kernels.cache.kv_write_rows import write
from advisor.kernels.kernel import INTERPRETED, Kernel, Variant
from advisor.kernels.launch_sizes import padded

FORMATS = ("bf16", *kv_formats.FORMATS)
"""`bf16` stands for the model's own type."""
_ROWS = 16


def reference(
    key: Tensor,
    value: Tensor,
    slots: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    kv_format: str = "bf16",
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    query: Tensor | None = None,
    recent: tuple[Tensor, Tensor, Tensor] | None = None,
) -> None:
    """`kv_write` in plain torch."""
    if cos is not None and sin is not None:
        key = _with_positions(key, cos, sin)
        if query is not None:
            query.copy_(_with_positions(query, cos, sin))
    dtype, size = key.dtype, keys.shape[2]
    if kv_format == "int4":
        key, value = kv_formats.rotate(key.float()), kv_formats.rotate(value.float())
        if query is not None:
            query.copy_(kv_formats.rotate(query.float()))
    written = slots >= 0
    block, offset = slots[written] // size, slots[written] % size
    for new, stored, scales in ((key, keys, key_scales), (value, values, value_scales)):
        rows = new[written]
        if scales is not None:
            rows, row_scales = kv_formats.quantise(rows, kv_format)
            scales[block, :, offset] = row_scales[..., None]
        stored.view(torch.uint8 if scales is not None else stored.dtype)[block, :, offset] = (
            rows.view(torch.uint8) if scales is not None else rows
        )
    if recent is not None:
        in_ring = (slots >= 0) & (recent[2] >= 0)
        page, offset = recent[2][in_ring].long(), slots[in_ring] % size
        for new, ring in ((key, recent[0]), (value, recent[1])):
            ring.view(-1, *ring.shape[2:])[page, :, offset] = new[in_ring].to(dtype)


def _with_positions(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions in the half-split convention on the first R dims of `rows` [T, H, D], rounded where transformers rounds."""
    width = cos.shape[1]
    rotary, rest = rows[..., :width], rows[..., width:]
    swapped = torch.cat([-rotary[..., width // 2 :], rotary[..., : width // 2]], -1)
    return torch.cat([rotary * cos.to(rows.dtype)[:, None] + swapped * sin.to(rows.dtype)[:, None], rest], -1)


def kv_write(
    key: Tensor,
    value: Tensor,
    slots: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    kv_format: str = "bf16",
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    query: Tensor | None = None,
    recent: tuple[Tensor, Tensor, Tensor] | None = None,
) -> None:
    """Write `key` [T, K, D] and `value` [T, K, E] to `slots` [T] int64 of the paged cache that `paged_decode` reads.

    A slot is block · S + offset, or −1 for a token that is not written. `keys` [P, K, S, ·] and `values` [P, K, S, ·] are stored in
    `kv_format` with float16 `key_scales` and `value_scales` [P, K, S, 1]; `bf16` stands for the type of `key` and has none.

    `cos` and `sin` [T, R] apply rotary positions, half-split, to the keys and, in place, to `query` [T, H, D]. In int4, keys, values and
    query are then rotated by `kv_formats.rotate`. `recent` is (keys [N, 2, K, S, D], values [N, 2, K, S, E], pages [T] int32): the rows are
    also written unquantised to page (row of the ring · 2 + (position // S) % 2), −1 for none. Two tokens of one call must not share a
    slot, nor an offset in a page. Raises `ValueError` for shapes, types or devices that do not fit together.
    """
    recent_keys, recent_values, recent_pages = recent or (None, None, None)
    others = {
        "slots": slots, "query": query, "key_scales": key_scales, "value_scales": value_scales, "cos": cos, "sin": sin,
        "recent_keys": recent_keys, "recent_values": recent_values, "recent_pages": recent_pages,
    }  # fmt: skip
    _check(key, value, keys, values, others, kv_format)
    if key.device.type == "cpu" and not INTERPRETED:
        reference(
            key, value, slots, keys, values, kv_format=kv_format, key_scales=key_scales, value_scales=value_scales,
            cos=cos, sin=sin, query=query, recent=recent,
        )  # fmt: skip
        return
    if slots.numel() == 0:
        return
    (tokens, kv_heads, key_width), value_width, size = key.shape, value.shape[2], keys.shape[2]
    heads = 0 if query is None else query.shape[1]
    stored = (keys, values) if kv_format == "bf16" else (keys.view(torch.uint8), values.view(torch.uint8))
    write[triton.cdiv(tokens * max(kv_heads, heads), _ROWS), 2 if query is None else 3](
        key, value, query, slots, *stored, key_scales, value_scales, cos, sin, recent_keys, recent_values, recent_pages,
        key.stride(0), value.stride(0), 0 if query is None else query.stride(0), tokens,
        FORMAT=kv_format, HEADS=heads, KV_HEADS=kv_heads, SIZE=size, D=key_width, E=value_width,
        ROTARY=0 if cos is None else cos.shape[1], BLOCK_D=padded(key_width), BLOCK_E=padded(value_width),
        ROWS=_ROWS, WIDE=INTERPRETED, num_warps=4,
    )  # fmt: skip


def _check(key: Tensor, value: Tensor, keys: Tensor, values: Tensor, others: dict[str, Tensor | None], kv_format: str) -> None:
    """Raise `ValueError` unless shapes, types, strides and devices fit together."""
    given = {"key": key, "value": value, "keys": keys, "values": values, **others}
    if kv_format not in FORMATS:
        raise ValueError(f"no cache format `{kv_format}`; choose from {', '.join(FORMATS)}")
    if key.dim() != 3 or value.dim() != 3 or keys.dim() != 4 or not key.is_floating_point():
        raise ValueError(f"kv_write takes key [T, K, D], value [T, K, E] and a cache [P, K, S, ·]; got {arguments.Given(given)}")
    (tokens, kv_heads, width), (blocks, _, size, _) = key.shape, keys.shape
    exact, cos = kv_format == "bf16", given["cos"]
    stored = key.dtype if exact else kv_formats.stored_dtype(kv_format)
    widths = [wide if exact else kv_formats.stored_width(kv_format, wide) for wide in (width, value.shape[2])]
    scales = (None if exact else (blocks, kv_heads, size, 1), torch.float16)
    rotation = (None, key.dtype) if cos is None else ((tokens, cos.shape[-1]), cos.dtype)
    expected: arguments.Expected = {
        "value": ((tokens, kv_heads, -1), key.dtype),
        "keys": ((blocks, kv_heads, size, widths[0]), stored),
        "values": ((blocks, kv_heads, size, widths[1]), stored),
        "slots": ((tokens,), torch.int64),
        "query": ((tokens, -1, width), key.dtype),
        "key_scales": scales,
        "value_scales": scales,
        "cos": rotation,
        "sin": rotation,
        "recent_keys": ((-1, 2, kv_heads, size, width), key.dtype),
        "recent_values": ((-1, 2, kv_heads, size, value.shape[2]), key.dtype),
        "recent_pages": ((tokens,), torch.int32),
    }
    required = ("slots", *(() if exact else ("key_scales", "value_scales")), *(() if cos is None else ("sin",)))
    arguments.check("kv_write", given, expected, required, key.device)
    if cos is not None and (cos.shape[1] % 2 or cos.shape[1] > width):
        raise ValueError(f"kv_write applies rotary positions to an even number of dims; got {arguments.Given(given)}")
    arguments.check_layout("kv_write", given, {"key": 1, "value": 1, "query": 1})


def _inputs(kv_format: str, tokens: int, kv_heads: int, groups: int, width: int, value_width: int, rotary: int) -> tuple[Any, ...]:
    """New rows and an empty cache in blocks of 16 tokens; one token has no slot, and int4 has a ring of newest pages."""
    make = torch.Generator().manual_seed(tokens * 31 + width)
    blocks, size = tokens // 16 + 2, 16
    key, value = (torch.randn(tokens, kv_heads, wide, generator=make).half() for wide in (width, value_width))
    slots = torch.randperm(blocks * size, generator=make)[:tokens]
    slots[tokens // 2 :][:1] = -1
    options: dict[str, Any] = {"kv_format": kv_format, "query": torch.randn(tokens, kv_heads * groups, width, generator=make).half()}
    cache = []
    for name, wide in (("key_scales", width), ("value_scales", value_width)):
        shape = (blocks, kv_heads, size, wide if kv_format == "bf16" else kv_formats.stored_width(kv_format, wide))
        cache.append(torch.zeros(shape, dtype=torch.float16 if kv_format == "bf16" else kv_formats.stored_dtype(kv_format)))
        options[name] = None if kv_format == "bf16" else torch.zeros(*shape[:3], 1, dtype=torch.float16)
    if rotary:
        angle = torch.randn(tokens, rotary, generator=make)
        options |= {"cos": angle.cos().half(), "sin": angle.sin().half()}
    if kv_format == "int4":
        rings = (torch.zeros(3, 2, kv_heads, size, wide, dtype=torch.float16) for wide in (width, value_width))
        options["recent"] = (*rings, torch.arange(tokens, dtype=torch.int32).sub_(tokens - 7).clamp_(max=5).clamp_(min=-1))
    return key, value, slots, *cache, options


def _after(function: Callable[..., None], key: Tensor, *given: Any) -> Tensor:
    """Call `function` on copies of the cache, the query and the ring; returns everything it has written as one row of numbers."""
    value, slots, keys, values, options = (_cloned(argument) for argument in given)
    function(key.to(value.dtype), value, slots, keys, values, **options)
    cache = [(keys, options["key_scales"]), (values, options["value_scales"])]
    if options["kv_format"] != "bf16":
        rows = [kv_formats.dequantise(stored, scales[..., 0], options["kv_format"], torch.float32) for stored, scales in cache]
    else:
        rows = [stored for stored, _ in cache]
    return torch.cat([part.double().flatten() for part in (*rows, options["query"], *options.get("recent", ())[:2])])


def _cloned(argument: Any) -> Any:
    """A tensor, or the tensors in a tuple or dictionary, copied; everything else as it is."""
    if isinstance(argument, Tensor):
        return argument.clone()
    if isinstance(argument, tuple):
        return tuple(_cloned(part) for part in argument)
    return {name: _cloned(part) for name, part in argument.items()} if isinstance(argument, dict) else argument


def _bytes(kv_format: str, tokens: int, kv_heads: int, groups: int, width: int, value_width: int, rotary: int) -> int:
    read = 2 * kv_heads * (width + value_width) + 8 + 4 * rotary
    written = sum(2 * wide if kv_format == "bf16" else kv_formats.stored_width(kv_format, wide) + 2 for wide in (width, value_width))
    return tokens * (read + kv_heads * (written + 2 * 2 * groups * width))


def _variant(kv_format: str, width: int, rotary: int) -> Variant:
    exact, ring = kv_format == "bf16", kv_format == "int4"
    types = {**dict.fromkeys(("key", "value", "query", "cos", "sin"), "*bf16"), "slots": "*i64", "tokens_all": "i32"}
    types |= dict.fromkeys(("keys", "values"), "*bf16" if exact else "*u8") | dict.fromkeys(
        ("key_stride", "value_stride", "query_stride"), "i32"
    )
    types |= {} if exact else dict.fromkeys(("key_scales", "value_scales"), "*fp16")
    types |= {"recent_keys": "*bf16", "recent_values": "*bf16", "recent_pages": "*i32"} if ring else {}
    return Variant(
        name=f"{kv_format}-{width}",
        function=write,
        types=types,
        constants={name: None for name in write.arg_names if name.islower() and name not in types}
        | {
            "FORMAT": kv_format, "HEADS": 32, "KV_HEADS": 8, "SIZE": 16, "D": width, "E": width, "ROTARY": rotary,
            "BLOCK_D": padded(width), "BLOCK_E": padded(width), "ROWS": _ROWS, "WIDE": False,
        },
        warps=4,
        stages=3,
        aligned=("key_stride", "value_stride", "query_stride"),
        multiplies=ring,
        shared_bytes=48 * 1024,
    )  # fmt: skip


KERNEL = Kernel(
    name="kv-write",
    reference=lambda *arguments: _after(reference, *arguments),
    launch=lambda *arguments: _after(kv_write, *arguments),
    inputs=_inputs,
    shapes=tuple(
        (kv_format, *rest) for kv_format in FORMATS for rest in ((1, 2, 4, 64, 64, 64), (21, 1, 3, 80, 96, 32), (5, 2, 1, 128, 128, 0))
    ),
    # a rotated element halfway between two levels may be rounded to either, 1/15 of the row's range apart; there are very few
    tolerance=2e-3,
    bytes=_bytes,
    flops=lambda kv_format, tokens, kv_heads, groups, width, value_width, rotary: 3 * tokens * kv_heads * (1 + groups) * rotary,
    variants=(*(_variant(kv_format, 128, 128) for kv_format in FORMATS), _variant("bf16", 80, 32), _variant("int4", 256, 256)),
)

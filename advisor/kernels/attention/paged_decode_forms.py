"""Launch configurations of `paged_decode`, and the budget of each when compiled ahead of time. Letters as there."""

from dataclasses import dataclass

import torch

from advisor.kernels.attention.paged_decode_tiles import attend, combine
from advisor.kernels.cache.cache_words import PLANES
from advisor.kernels.kernel import Variant
from advisor.kernels.launch_sizes import PROGRAMS, padded

SPLITS = (1, 4, 8, 16, 32)
"""Allowed numbers of programs per sequence and key-value head."""
_TILE_BYTES = 32 * 1024
"""Keys and values of a tile. With one tile loaded ahead, two programs fit the shared memory of 163 KiB and one that of 99 KiB."""


@dataclass(frozen=True, slots=True)
class Form:
    """Keys of a tile, warps and pipeline stages."""

    tile: int
    warps: int
    stages: int


def form_of(kv_format: str, dtype: torch.dtype, width: int, rows: int) -> Form:
    """The configuration for keys and values of at most `width` elements and `rows` query rows per key-value head.

    Five stages keep two tiles in flight besides the one in use, as table entries are loaded ahead of the rows they point to.
    """
    exact = kv_format == "bf16"
    if exact and dtype == torch.float32:  # no matrix instruction multiplies float32: registers decide
        return Form(16, 4, 3)
    rows, words = padded(rows), padded(width // PLANES[kv_format])
    if kv_format == "int4" and words == 16 and rows < 64:  # a plane is too narrow to be shared by warps
        return Form(64 if rows == 16 else 32, 1, 3)
    if rows > 32:
        return Form(32 if words * PLANES[kv_format] > 128 else 64, 4 if rows == 64 and width <= 128 else 8, 3)
    if kv_format == "int4" and rows == 32:
        return Form(32 if words > 32 else 64, 2, 3)
    return Form(min(128, _TILE_BYTES // (4 * words)), 4, 5)


def most_rows(width: int) -> int:
    """Most query rows W·G per key-value head for which registers suffice, with keys and values of `width` elements."""
    return 128 if width <= 128 else 64


def splits_for(programs: int, reach: int, tile: int) -> int:
    """The fewest splits of `SPLITS` that fill the device with `programs` pairs of sequence and key-value head, two tiles or more in each.

    `reach` is the most keys that a sequence can have, as the lengths are only known on the device.
    """
    needed = max(1, min(PROGRAMS // programs if programs else 1, reach // (2 * tile)))
    return next((splits for splits in SPLITS if splits >= needed), SPLITS[-1])


def _variant(
    name: str,
    kv_format: str,
    slots: float | None,
    *,
    width: int = 128,
    tokens: int = 1,
    dtype: str = "bf16",
    splits: int = 16,
    extra: dict[str, str] | None = None,
    window: bool = False,
    first: bool = False,
    softcap: bool = False,
) -> Variant:
    """A variant for 8 key-value heads of 4 query heads and blocks of 16 tokens; `extra` are the types of optional tensors."""
    step, rows, exact = PLANES[kv_format], 4 * tokens, kv_format == "bf16"
    form = form_of(kv_format, torch.float32 if dtype == "fp32" else torch.bfloat16, width, rows)
    shared = splits > 1 or (extra is not None and "recent_keys" in extra)
    types = {"query": f"*{dtype}", **dict.fromkeys(("keys", "values"), f"*{dtype}" if exact else "*i16")}
    types |= {"tables": "*i32", "lengths": "*i32", "out": "*fp32" if shared else f"*{dtype}", "scale": "fp32", "softcap": "fp32"}
    types |= dict.fromkeys(("window", "first", "sequence_stride", "token_stride", "table_stride"), "i32") | (extra or {})
    types |= {} if exact else {"key_scales": "*fp16", "value_scales": "*fp16"}
    types |= {"logarithms": "*fp32"} if shared else {}
    constants = {name: None for name in attend.arg_names if name.islower() and name not in types} | {
        "FORMAT": kv_format, "STEP": step, "WIDTH": tokens, "GROUP": 4, "KV_HEADS": 8, "SIZE": 16, "D": width, "E": width,
        "BLOCK_D": padded(width // step), "BLOCK_E": padded(width // step), "ROWS": padded(rows), "TILE": form.tile,
        "SPLITS": splits, "WINDOWED": window, "FIRST": first, "SOFTCAP": softcap, "WIDE": False,
    }  # fmt: skip
    return Variant(
        name=name,
        function=attend,
        types=types,
        constants=constants,
        warps=form.warps,
        stages=form.stages,
        aligned=("sequence_stride", "token_stride"),
        elements=2 * form.tile * width if slots else 0,
        slots_per_element=slots,
        multiplies=dtype != "fp32",
    )


def _combination(shares: int, width: int) -> Variant:
    return Variant(
        name=f"combine-{shares}x{width}",
        function=combine,
        types={"parts": "*fp32", "logarithms": "*fp32", "out": "*bf16"},
        constants={"E": width, "BLOCK": padded(width), "WIDTH": 1, "GROUP": 4, "SHARES": shares},
        warps=4,
        stages=3,
        registers=128,
        shared_bytes=8 * 1024,
    )


_ALL = {
    "first_query": "*bf16", "recent_keys": "*bf16", "recent_values": "*bf16", "recent_rows": "*i32", "sinks": "*bf16", "ancestors": "*i64",
}  # fmt: skip
_RING = {name: _ALL[name] for name in ("recent_keys", "recent_values", "recent_rows")}
_REST = {name: _ALL[name] for name in ("first_query", "sinks", "ancestors")}
VARIANTS = (
    # at full memory speed, an H200 has 15.6, 7.8 and 3.9 issue slots per element of 16, 8 and 4 bits
    _variant("bf16", "bf16", 6.0),
    _variant("fp8", "fp8", 6.2),
    _variant("int8", "int8", 5.2),
    _variant("int4", "int4", 3.9, extra=_RING),
    _variant("bf16-64", "bf16", 6.0, width=64),
    _variant("int4-64", "int4", 5.0, width=64),
    _variant("bf16-256", "bf16", 6.0, width=256),
    _variant("int4-256", "int4", 3.9, width=256),
    _variant("int8-80", "int8", 7.8, width=80),
    _variant("fp8-32-rows", "fp8", 7.8, tokens=8),
    _variant("int4-32-rows", "int4", 7.0, tokens=8),
    _variant("bf16-64-rows", "bf16", 10.0, tokens=16),
    _variant("fp8-64-rows", "fp8", 24.0, tokens=16),
    _variant("int4-64-rows", "int4", 16.0, tokens=16),
    _variant("int4-128-rows", "int4", 32.0, tokens=32),
    _variant("bf16-256-64-rows", "bf16", 15.6, width=256, tokens=16),
    _variant("float32-256", "bf16", None, width=256, dtype="fp32"),
    _variant("bf16-all-options", "bf16", 7.8, tokens=4, extra=_REST, window=True, first=True, softcap=True),
    _variant("int4-all-options", "int4", 7.0, tokens=4, extra=_ALL, window=True, first=True, softcap=True),
    _combination(4, 128),
    _combination(33, 256),
)

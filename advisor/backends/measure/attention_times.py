"""Times one layer's attention, cache write included, as a step of the runtime runs it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from advisor.backends.measure.interleave import MeasurementKind
from advisor.backends.measure.timing import seconds_per_call
from advisor.profiles.machine import AttentionPoint

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Numbers of query heads and of key-value heads, and their width."""

    q_heads: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """A batch of sequences with `q_tokens` new tokens and `kv_tokens` tokens in all each."""

    phase: Literal["prefill", "decode"]
    batch: int
    q_tokens: int
    kv_tokens: int


HEAD_SHAPES = (HeadShape(8, 4, 32), HeadShape(16, 8, 64), HeadShape(4, 2, 32), HeadShape(32, 8, 128))
Variant = tuple[str, str, str]
"""Attention implementation, cache layout and cache format."""
UNQUANTISED = "bf16"
"""The runtime's name of a cache in the type of the activations."""
VARIANTS: tuple[Variant, ...] = (
    ("eager", "contiguous", "bf16"),
    ("sdpa", "contiguous", "bf16"),
    ("sdpa", "paged", "bf16"),
    ("sdpa", "paged", "int8"),
    ("eager", "paged", "bf16"),
    ("sdpa", "paged", "fp8"),
    ("sdpa", "paged", "int4"),
    *(
        (implementation, layout, kv_format)
        for implementation, layout in (("eager", "paged"), ("sdpa", "contiguous"), ("eager", "contiguous"))
        for kv_format in ("int8", "fp8", "int4")
    ),
)
"""Most informative first: variants beyond the time budget are skipped.

Every format is measured under at least one implementation and layout; the estimate for the others scales it by their ratio in
`UNQUANTISED`.
"""
SHAPES = (
    *(AttentionShape("decode", batch, 1, kv) for batch in (1, 4, 16) for kv in (64, 256, 1024)),
    *(AttentionShape("decode", batch, 4, 256) for batch in (1, 8)),
    *(AttentionShape("prefill", 1, tokens, tokens) for tokens in (16, 64, 256, 1024)),
    *(AttentionShape("prefill", 1, tokens, kv) for tokens, kv in ((64, 256), (256, 1024))),
)


REQUIRED_SETS = 7
"""Variants that are timed even after the deadline."""
MOST_SCORES = 2**31
"""Most products of new tokens, tokens, heads and width in one call; larger shapes take seconds and add little."""


def attention_timings(
    device: "torch.device",
    share: float,
    shapes: Sequence[AttentionShape] = SHAPES,
    variants: Sequence[Variant] = VARIANTS,
    *,
    dtype: str = "bf16",
) -> MeasurementKind[AttentionPoint]:
    """The timings of the first head shape in every variant, then of the other head shapes; a set is one head shape in one variant.

    Queries, and caches that are not quantised, are in `dtype`.
    """
    first, *others = HEAD_SHAPES
    sets = [(first, variant) for variant in variants] + [(heads, variant) for variant in variants for heads in others]
    tasks = [partial(time_set, heads, variant, device, shapes, dtype=dtype) for heads, variant in sets]
    return MeasurementKind(tasks=tasks, share=share, required=REQUIRED_SETS)


def time_set(
    heads: HeadShape, variant: Variant, device: "torch.device", shapes: Sequence[AttentionShape] = SHAPES, *, dtype: str = "bf16"
) -> Iterator[AttentionPoint]:
    """One variant on one head shape: a point for each of `shapes` within `MOST_SCORES`."""
    for shape in shapes:
        if shape.q_tokens * shape.kv_tokens * heads.q_heads * heads.head_dim <= MOST_SCORES:
            yield time_attention(heads, variant, shape, device, dtype)


def time_attention(
    heads: HeadShape, variant: Variant, shape: AttentionShape, device: "torch.device", dtype: str = "bf16"
) -> AttentionPoint:
    """Time one layer's attention in the given variant, head shape and batch."""
    from advisor.backends.model.load import torch_dtype
    from advisor.backends.runtime.attention.probe import attention_layer_callable

    implementation, layout, kv_format = variant
    run = attention_layer_callable(
        implementation=implementation,
        layout=layout,
        kv_format=kv_format,
        phase=shape.phase,
        batch=shape.batch,
        q_tokens=shape.q_tokens,
        kv_tokens=shape.kv_tokens,
        q_heads=heads.q_heads,
        kv_heads=heads.kv_heads,
        head_dim=heads.head_dim,
        dtype=torch_dtype(dtype),
        device=device,
    )
    return AttentionPoint(
        implementation=implementation,
        layout=layout,
        kv_format=dtype if kv_format == UNQUANTISED else kv_format,
        phase=shape.phase,
        batch=shape.batch,
        q_tokens=shape.q_tokens,
        kv_tokens=shape.kv_tokens,
        q_heads=heads.q_heads,
        kv_heads=heads.kv_heads,
        head_dim=heads.head_dim,
        seconds=seconds_per_call(lambda _: run(), device),
    )

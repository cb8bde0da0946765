"""Times one layer's attention, cache write included, as a step of the runtime runs it."""

from collections.abc import Iterator
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
    """Heads of the queries, heads of keys and values, and their width."""

    q_heads: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class Work:
    """So many sequences, each with so many new and so many tokens in all."""

    phase: Literal["prefill", "decode"]
    batch: int
    q_tokens: int
    kv_tokens: int


HEAD_SHAPES = (HeadShape(8, 4, 32), HeadShape(16, 8, 64), HeadShape(4, 2, 32), HeadShape(32, 8, 128))
VARIANTS = (
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
"""Implementation, layout and cache format. Both most telling first: what there is no time for is left out.

A format that was measured in one way is priced in the others by what they differ by in bf16, so each is measured in one at least.
"""
WORKS = (
    *(Work("decode", batch, 1, kv) for batch in (1, 4, 16) for kv in (64, 256, 1024)),
    *(Work("decode", batch, 4, 256) for batch in (1, 8)),
    *(Work("prefill", 1, tokens, tokens) for tokens in (16, 64, 256, 1024)),
    *(Work("prefill", 1, tokens, kv) for tokens, kv in ((64, 256), (256, 1024))),
)


NEEDED_SETS = 7
"""Timed even when the time is up."""
MOST_SCORES = 2**31
"""Work with more products of new tokens, tokens and width than this would take seconds and tell little."""


def attention_timings(device: "torch.device", share: float) -> MeasurementKind[AttentionPoint]:
    """The first shape of heads in the variants that plans use most, then the rest, in whole sets."""
    first, *others = HEAD_SHAPES
    sets = [(first, variant) for variant in VARIANTS] + [(heads, variant) for variant in VARIANTS for heads in others]
    return MeasurementKind(works=[partial(time_set, heads, variant, device) for heads, variant in sets], share=share, needed=NEEDED_SETS)


def time_set(heads: HeadShape, variant: tuple[str, str, str], device: "torch.device") -> Iterator[AttentionPoint]:
    """One variant on one shape of heads."""
    for work in WORKS:
        if work.q_tokens * work.kv_tokens * heads.q_heads * heads.head_dim <= MOST_SCORES:
            yield time_attention(heads, variant, work, device)


def time_attention(heads: HeadShape, variant: tuple[str, str, str], work: Work, device: "torch.device") -> AttentionPoint:
    """One measured point."""
    import torch

    from advisor.backends.runtime.attention.probe import attention_layer_callable

    implementation, layout, kv_format = variant
    run = attention_layer_callable(
        implementation=implementation,
        layout=layout,
        kv_format=kv_format,
        phase=work.phase,
        batch=work.batch,
        q_tokens=work.q_tokens,
        kv_tokens=work.kv_tokens,
        q_heads=heads.q_heads,
        kv_heads=heads.kv_heads,
        head_dim=heads.head_dim,
        dtype=torch.bfloat16,
        device=device,
    )
    return AttentionPoint(
        implementation=implementation,
        layout=layout,
        kv_format=kv_format,
        phase=work.phase,
        batch=work.batch,
        q_tokens=work.q_tokens,
        kv_tokens=work.kv_tokens,
        q_heads=heads.q_heads,
        kv_heads=heads.kv_heads,
        head_dim=heads.head_dim,
        seconds=seconds_per_call(lambda _: run(), device),
    )

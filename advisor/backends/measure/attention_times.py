"""Times one layer's attention, cache write included, as a step of the runtime runs it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

from advisor.backends.measure.timing import Clock, Deadline, seconds_per_call
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
"""Most telling first: what there is no time for is left out."""
VARIANTS = tuple(product(("eager", "sdpa"), ("contiguous", "paged"), ("bf16", "int8")))
WORKS = (
    *(Work("decode", batch, 1, kv) for batch in (1, 4, 16) for kv in (64, 256, 1024)),
    *(Work("decode", batch, 4, 256) for batch in (1, 8)),
    *(Work("prefill", 1, tokens, tokens) for tokens in (16, 64, 256, 1024)),
    *(Work("prefill", 1, tokens, kv) for tokens, kv in ((64, 256), (256, 1024))),
)


def measure_attention(device: "torch.device", clock: Clock, deadline: Deadline) -> Iterator[AttentionPoint]:
    """Time every piece of work in every variant, as far as time goes; the first shape of heads is always timed."""
    total = len(HEAD_SHAPES) * len(VARIANTS) * len(WORKS)
    for done, (heads, variant, work) in enumerate(product(HEAD_SHAPES, VARIANTS, WORKS)):
        clock.tell("attention", done, total)
        if heads is not HEAD_SHAPES[0] and deadline.passed:
            break
        yield time_attention(heads, variant, work, device)
    clock.tell("attention", total, total)


def time_attention(heads: HeadShape, variant: tuple[str, str, str], work: Work, device: "torch.device") -> AttentionPoint:
    """One measured point; `variant` is implementation, layout and cache format."""
    import torch

    from advisor.backends.runtime.probe import attention_layer_callable

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

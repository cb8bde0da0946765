"""A layer's attention as a step of the runtime runs it, its cache written: every back end and cache format on one piece of work."""

from collections.abc import Sequence
from functools import partial

import torch

from advisor.backends.measure.attention_times import VARIANTS, AttentionShape, HeadShape
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import KERNELS
from benchmarks.harness.timing import Candidate, interleaved

HEADS = HeadShape(16, 8, 64)
WORKS = (
    AttentionShape("decode", 4, 1, 1024),
    AttentionShape("decode", 16, 1, 1024),
    AttentionShape("decode", 1, 1, 4096),
    AttentionShape("decode", 16, 1, 256),
    AttentionShape("prefill", 1, 512, 512),
    AttentionShape("prefill", 1, 256, 1024),
)
FIRST = ("sdpa", "paged", "bf16")
"""What the others are compared with."""
MORE = (
    ("flash", "paged", "bf16"),
    *((implementation, "paged", kv_format) for implementation in ("sdpa", "eager") for kv_format in ("fp8", "int4")),
)
TINY_HEADS = HeadShape(2, 1, 32)
TINY_WORKS = (AttentionShape("decode", 2, 1, 32), AttentionShape("prefill", 1, 16, 16))


def layer_cases(works: Sequence[AttentionShape] = WORKS, heads: HeadShape = HEADS, *, seconds: float = 8.0) -> list[Case]:
    """A case for each piece of work."""
    return [
        Case(
            part=KERNELS,
            name=f"layer-attention/{work.phase}-{work.batch}x{work.q_tokens}-{work.kv_tokens}",
            seconds=seconds,
            run=partial(time_layer, work, heads),
        )
        for work in works
    ]


def time_layer(work: AttentionShape, heads: HeadShape, bench: Bench) -> Measured:
    """Candidates are back end, layout and format; the first is the one that others are compared with."""
    order = dict.fromkeys((FIRST, *VARIANTS, *MORE))
    candidates = [Candidate(" ".join(variant), [_layer(work, heads, variant, bench.device)]) for variant in order]
    with torch.inference_mode():
        timings = interleaved(candidates, bench.device, bench.samples)
    return Measured(
        settings={
            "phase": work.phase, "batch": work.batch, "new_tokens": work.q_tokens, "context": work.kv_tokens,
            "heads": heads.q_heads, "kv_heads": heads.kv_heads, "width": heads.head_dim,
        },
        timings=timings,
    )  # fmt: skip


def _layer(work: AttentionShape, heads: HeadShape, variant: tuple[str, str, str], device: torch.device) -> partial[None]:
    from advisor.backends.runtime.attention.probe import attention_layer_callable

    implementation, layout, kv_format = variant
    return partial(
        attention_layer_callable(
            implementation=implementation, layout=layout, kv_format=kv_format, phase=work.phase, batch=work.batch, q_tokens=work.q_tokens,
            kv_tokens=work.kv_tokens, q_heads=heads.q_heads, kv_heads=heads.kv_heads, head_dim=heads.head_dim, dtype=torch.bfloat16,
            device=device,
        )
    )  # fmt: skip

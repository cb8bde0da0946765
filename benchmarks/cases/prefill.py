"""Times prefill under sparse patterns, our dense attention and torch's, which cannot skip blocks."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from advisor.kernels.attention.block_pattern import BlockPattern
from advisor.kernels.attention.block_sparse_prefill import block_sparse_attention
from benchmarks.cases.shapes import PATTERNS, PREFILLS, Prefill
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import KERNELS
from benchmarks.harness.record import Timing, Work
from benchmarks.harness.timing import FEWEST_SETS, Candidate, absent, interleaved

Row = tuple[Tensor, Tensor, Tensor]


def prefill_cases(shapes: Sequence[Prefill] = PREFILLS, *, seconds: float = 8.0) -> list[Case]:
    """A case for each shape and pattern."""
    return [
        Case(
            part=KERNELS,
            name=f"block-sparse-prefill/{shape.name}",
            seconds=seconds + 15 * shape.peers,
            needs=("block-sparse-prefill",),
            run=partial(time_prefill, shape),
        )
        for shape in shapes
    ]


def time_prefill(shape: Prefill, bench: Bench) -> Measured:
    """Time the pattern, dense attention by the same kernel, and torch's causal attention."""
    options: dict[str, Any] = PATTERNS[shape.pattern]
    pattern, dense = BlockPattern(**options), BlockPattern(block=options.get("block", 64))
    rows = [random_rows(shape, bench.device, seed) for seed in range(FEWEST_SETS)]
    calls: dict[str, Sequence[Callable[[], object]]] = {
        "dense": [partial(block_sparse_attention, *row, dense) for row in rows],
        "sdpa": [partial(_causal, *row) for row in rows],
    }
    if not pattern.is_dense:
        calls = {"sparse": [partial(block_sparse_attention, *row, pattern) for row in rows], **calls}
    missing: list[Timing] = []
    if shape.peers:
        made = flex_calls(pattern, rows)
        if isinstance(made, str):
            missing.append(absent("flex", made))
        else:
            calls["flex"] = made
    with torch.inference_mode():
        timings = interleaved([Candidate(name, made) for name, made in calls.items()], bench.device, bench.samples)
    density = pattern.density(shape.tokens)
    times = {timing.name: timing.median_s for timing in timings}
    sparse, whole = times.get("sparse"), times["dense"]
    return Measured(
        settings={"model": shape.model.name, "tokens": shape.tokens, "pattern": shape.pattern},
        work={name: work_of(shape, density if name in ("sparse", "flex") else 1.0) for name in calls},
        timings=(*timings, *missing),
        values={"density": density} | ({"time_by_density": sparse / (density * whole)} if sparse and whole else {}),
    )


def work_of(shape: Prefill, density: float) -> Work:
    """Least work: both products of the scores below the diagonal that the pattern computes."""
    model, tokens = shape.model, shape.tokens
    moved = 2 * tokens * model.width * (2 * model.heads + 2 * model.kv_heads)
    return Work(bytes=moved, flops=int(density * 2 * tokens * tokens * model.heads * model.width))


def random_rows(shape: Prefill, device: torch.device, seed: int) -> Row:
    """Query [1, T, H, D], keys and values [1, T, K, D]."""
    draw = torch.Generator(device).manual_seed(seed)
    model = shape.model
    query, keys, values = (
        torch.randn(1, shape.tokens, heads, model.width, device=device, generator=draw).to(torch.bfloat16)
        for heads in (model.heads, model.kv_heads, model.kv_heads)
    )
    return query, keys, values


def _causal(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return scaled_dot_product_attention(
        query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), is_causal=True, enable_gqa=True
    )


def flex_calls(pattern: BlockPattern, rows: Sequence[Row]) -> Sequence[Callable[[], object]] | str:
    """Compiled flex_attention under the same window, or the error of its compilation."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    window, tokens = pattern.window, rows[0][0].shape[1]
    assert window is not None, "flex_attention is timed on windows"

    def is_visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key > query - window)

    try:
        mask = create_block_mask(is_visible, None, None, tokens, tokens, device=str(rows[0][0].device))
        compiled: Callable[..., object] = torch.compile(flex_attention, dynamic=False)
        transposed = [tuple(part.transpose(1, 2) for part in row) for row in rows]
        compiled(*transposed[0], block_mask=mask, enable_gqa=True)
    except Exception as error:  # noqa: BLE001 - compilers raise many kinds; we only want to say so
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return [partial(compiled, *row, block_mask=mask, enable_gqa=True) for row in transposed]

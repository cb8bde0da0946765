"""The same 16 mixed requests served by this runtime and by transformers' own continuous batching, in turn, on the CPU.

Prompts of 16 to 128 tokens, outputs of 8 to 64, all there at the start, random bfloat16 Llamas of 207 M and 5 M parameters. Both must
give the same number of tokens.

    python -m benchmarks.cpu --only 'runtime/mixed-16/*'
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

from advisor.backends.deployment import Attention, AttentionBackend, Batching, BatchPolicy, KvCache, KvLayout
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.runtime.engine import GenerationRequest, serve
from benchmarks.cases.continuous import batched_seconds
from benchmarks.cases.models import LLAMA_5M, LLAMA_207M, Shape, make_model, session_of
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import RUNTIME
from benchmarks.harness.record import Timing

OURS: Mapping[str, dict[str, Any]] = {
    "advisor contiguous": {},
    "advisor paged": {"kv": KvCache(KvLayout.PAGED, 16)},
    "advisor paged sdpa": {"kv": KvCache(KvLayout.PAGED, 16), "attention": Attention(AttentionBackend.SDPA)},
}
THEIRS: Mapping[str, dict[str, int]] = {
    "transformers 256": {"num_blocks": 64, "page_size": 32, "max_batch_tokens": 256},
    "transformers 512": {"num_blocks": 128, "page_size": 32, "max_batch_tokens": 512},
}
REQUESTS, ROUNDS, WARM_UP = 16, 3, 4
"""Requests, how often each side serves them, and requests that warm up."""


def mixed_cases(shapes: Sequence[tuple[Shape, float]] = ((LLAMA_207M, 150), (LLAMA_5M, 40))) -> list[Case]:
    """A case for each model, with about how long it takes."""
    return [
        Case(part=RUNTIME, name=f"mixed-16/{shape.name}", seconds=seconds, run=partial(time_mixed, shape, mixed_jobs))
        for shape, seconds in shapes
    ]


def mixed_jobs(vocabulary: int, count: int = REQUESTS) -> list[GenerationRequest]:
    """Requests, the same in every run."""
    draw = random.Random(0)
    return [
        GenerationRequest(tuple(draw.randrange(vocabulary) for _ in range(draw.randint(16, 128))), draw.randint(8, 64))
        for _ in range(count)
    ]


def time_mixed(shape: Shape, make_jobs: Callable[[int], list[GenerationRequest]], bench: Bench) -> Measured:
    """Seconds per output token of every way of serving; the best of ours by the best of theirs."""
    model = make_model(shape, bench.device)
    jobs = make_jobs(model.config.vocab_size)
    longest = max(len(job.prompt) + job.output_tokens for job in jobs)
    session = session_of(model, max_tokens=longest, batching=Batching(BatchPolicy.CONTINUOUS, REQUESTS, token_budget=256))
    runs = {name: partial(our_seconds, replace(session, **settings)) for name, settings in OURS.items()}
    runs |= {name: partial(batched_seconds, model, settings=settings) for name, settings in THEIRS.items()}
    for run in runs.values():
        run(jobs=jobs[:WARM_UP])
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(min(ROUNDS, bench.samples)):
        for name, run in runs.items():
            taken[name].append(run(jobs=jobs))
    tokens = sum(job.output_tokens for job in jobs)
    best = {names: min(median(taken[name]) for name in names) for names in (tuple(OURS), tuple(THEIRS))}
    return Measured(
        settings={"model": shape.name, "requests": len(jobs), "output_tokens": tokens},
        timings=tuple(Timing(name=name, how="loop", calls=tokens, seconds=tuple(values)) for name, values in taken.items()),
        values={"best_ratio": best[tuple(THEIRS)] / best[tuple(OURS)], "output_tokens_per_s": 1 / best[tuple(OURS)]},
    )


def our_seconds(session: LoadedModel, jobs: Sequence[GenerationRequest]) -> float:
    """Seconds per output token of this runtime."""
    outcome = serve(session, jobs, concurrency=None)
    return outcome.wall_s / outcome.decode_tokens

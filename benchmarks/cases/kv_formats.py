"""Whole decoding steps over long caches, by cache format and attention: what a format saves or costs where a model runs."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from advisor.backends.deployment import Batching, BatchPolicy
from advisor.backends.runtime.engine import serve
from benchmarks.cases.continuous import decoding_steps, equal_jobs
from benchmarks.cases.models import DEMO_MODEL, Shape, make_model, recorded, session_of
from benchmarks.cases.one_sequence import ON_CPU, ON_GPU
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import RUNTIME
from benchmarks.harness.record import Timing

FORMATS = ("bf16", "fp8", "int8", "int4")
ROUNDS = 2


def format_cases(
    wanted: Sequence[tuple[Shape, int]] = ((DEMO_MODEL, 8),), *, prompt_tokens: int = 896, output_tokens: int = 32, seconds: float = 40
) -> list[Case]:
    """A case for each model and number of sequences."""
    return [
        Case(
            part=RUNTIME,
            name=f"kv-formats/{shape.name}-{sequences}x{prompt_tokens}",
            seconds=seconds,
            run=partial(time_formats, shape, sequences, prompt_tokens, output_tokens),
        )
        for shape, sequences in wanted
    ]


def time_formats(shape: Shape, sequences: int, prompt_tokens: int, output_tokens: int, bench: Bench) -> Measured:
    """Decoding steps of equal sequences in every format, formats in turn."""
    model = make_model(shape, bench.device)
    settings: dict[str, Any] = ON_GPU if bench.device.type == "cuda" else ON_CPU
    session = session_of(
        model,
        max_tokens=prompt_tokens + output_tokens,
        batching=Batching(BatchPolicy.CONTINUOUS, sequences, token_budget=1024),
        **settings,
    )
    jobs = equal_jobs(model.config.vocab_size, sequences, prompt_tokens, output_tokens)
    taken: dict[str, list[float]] = {kv_format: [] for kv_format in FORMATS}
    cache_bytes: dict[str, float] = {}
    for _ in range(min(ROUNDS, bench.samples)):
        for kv_format in FORMATS:
            outcome = serve(replace(session, kv=replace(session.kv, format=kv_format)), jobs, concurrency=None)
            taken[kv_format] += decoding_steps(outcome)
            cache_bytes[f"{kv_format}_kv_bytes"] = float(outcome.kv_used_bytes_peak)
    return Measured(
        settings={
            "model": shape.name,
            "sequences": sequences,
            "prompt_tokens": prompt_tokens,
            "output_tokens": output_tokens,
            **recorded(settings),
        },
        timings=tuple(Timing(name=kv_format, how="loop", seconds=tuple(steps)) for kv_format, steps in taken.items()),
        values=cache_bytes,
    )

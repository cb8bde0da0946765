"""A single sequence decoding: tokens per second of the runtime against the floor of its bytes and against transformers' `generate`."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from advisor.backends.deployment import Attention, AttentionBackend, KvCache, KvLayout
from advisor.backends.model.quantised_linear import quantise_linears
from advisor.backends.runtime.engine import GenerationRequest, ServingResult, serve
from benchmarks.cases.models import LLAMA_8B, MISTRAL_7B, QWEN3_8B, QWEN3_30B_A3B, Shape, make_model, recorded, session_of, step_bytes
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.checks import gpu_checks
from benchmarks.harness.parts import CEILINGS, RUNTIME
from benchmarks.harness.record import Record, Timing
from benchmarks.harness.timing import absent

FORMATS: dict[str, tuple[str, int | None] | None] = {"bf16": None, "int8": ("int8", None), "int4": ("int4", 128)}
ON_GPU: dict[str, Any] = {"attention": Attention(AttentionBackend.SDPA), "kv": KvCache(KvLayout.PAGED, 64)}
ON_CPU: dict[str, Any] = {"attention": Attention(AttentionBackend.SDPA), "kv": KvCache(KvLayout.PAGED, 16)}
ROUNDS = 5
WANTED = (
    *((LLAMA_8B, form) for form in FORMATS),
    (MISTRAL_7B, "bf16"),
    (QWEN3_8B, "bf16"),
    (QWEN3_30B_A3B, "bf16"),
    (QWEN3_8B, "int4"),
)


def one_sequence_cases(
    wanted: Sequence[tuple[Shape, str]] = WANTED, *, prompt_tokens: int = 128, output_tokens: int = 256, seconds: float = 18
) -> list[Case]:
    """A case for each model and weight format."""
    return [
        Case(
            part=RUNTIME,
            name=f"one-sequence/{shape.name}-{form}",
            seconds=seconds,
            needs=() if form == "bf16" else gpu_checks(f"{form}-linear"),
            after=((CEILINGS, "read"),),
            run=partial(time_one_sequence, shape, form, prompt_tokens, output_tokens),
        )
        for shape, form in wanted
    ]


def time_one_sequence(shape: Shape, form: str, prompt_tokens: int, output_tokens: int, bench: Bench) -> Measured:
    """Time per output token after the first, in rounds that alternate with transformers'."""
    model = make_model(shape, bench.device)
    how = FORMATS[form]
    if how is not None:
        quantise_linears(model, *how)
    settings = ON_GPU if bench.device.type == "cuda" else ON_CPU
    session = session_of(model, max_tokens=prompt_tokens + output_tokens, **settings)
    prompt = tuple(torch.randint(0, model.config.vocab_size, (prompt_tokens,)).tolist())
    ours, theirs = [], []
    why = ""
    for turn in range(min(ROUNDS, bench.samples) + 1):
        outcome = serve(session, [GenerationRequest(prompt, output_tokens)], concurrency=1)
        samples = [token_seconds(outcome)]
        if not why:
            try:
                samples.append(generate_seconds(model, prompt, min(output_tokens, 64)))
            except Exception as error:  # noqa: BLE001 - a peer may refuse in any way; we only want to say so
                why = absent("transformers", error).why
        if turn:  # the first round warms up
            ours.append(samples[0])
            theirs += samples[1:]
    timings = (
        Timing(name="advisor", how="loop", calls=output_tokens - 1, seconds=tuple(ours)),
        Timing(name="transformers", how="loop", calls=min(output_tokens, 64) - 1, seconds=tuple(theirs))
        if not why
        else absent("transformers", why),
    )
    moved = step_bytes(model, shape.spec(), 1).total(1, prompt_tokens + output_tokens // 2)
    return Measured(
        settings={
            "model": shape.name,
            "weights": form,
            "prompt_tokens": prompt_tokens,
            "output_tokens": output_tokens,
            **recorded(settings),
        },
        timings=timings,
        values=against_floor(timings[0], moved, bench.record(CEILINGS, "read")) | {"captured_share": outcome.captured_share},
        notes=notes_of(outcome),
    )


def notes_of(outcome: ServingResult) -> tuple[str, ...]:
    """Why a run was not what it could have been."""
    reasons = {"the model ran its own code": outcome.fallback_reason, "steps were not captured": outcome.uncaptured_because}
    return tuple(f"{what}: {why}" for what, why in reasons.items() if why)


def token_seconds(outcome: ServingResult) -> float:
    """Seconds of an output token after the first, one request alone."""
    tpot_ms = outcome.finished[0].sample.tpot_ms
    assert tpot_ms is not None, "several tokens come out"
    return tpot_ms / 1e3


def generate_seconds(model: Any, prompt: tuple[int, ...], output_tokens: int) -> float:
    """The same of transformers' greedy `generate`: what all tokens take more than the first alone does."""
    model.set_attn_implementation("sdpa")
    ids = torch.tensor([prompt], device=model.device)
    taken = []
    for count in (1, output_tokens):
        started = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=count, max_new_tokens=count, pad_token_id=0
            )
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return (taken[1] - taken[0]) / (output_tokens - 1)


def against_floor(timing: Timing, moved: float, read: Record | None) -> dict[str, float]:
    """Tokens per second, and the time by what reading the bytes takes at the measured ceiling."""
    seconds = timing.median_s
    rate = read.rate(read.timings[0].name) if read is not None else None
    assert seconds is not None, "ours was timed"
    values = {"tokens_per_s": 1 / seconds, "bytes_per_step": moved}
    return values if rate is None else values | {"floor_s": moved / rate, "step_by_floor": seconds / (moved / rate)}

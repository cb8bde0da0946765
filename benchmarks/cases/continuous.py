"""Batched serving: the runtime against transformers' continuous batching on the same jobs, and its steps against their floor."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch

from advisor.backends.deployment import Batching, BatchPolicy
from advisor.backends.runtime.engine import GenerationRequest, ServingResult, serve
from benchmarks.cases.idle import idle_in_trace
from benchmarks.cases.models import LLAMA_8B, QWEN3_30B_A3B, Shape, make_model, recorded, session_of, step_bytes
from benchmarks.cases.one_sequence import ON_CPU, ON_GPU, against_floor, notes_of
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import CEILINGS, RUNTIME
from benchmarks.harness.record import Timing
from benchmarks.harness.timing import absent

WANTED = ((LLAMA_8B, 32), (LLAMA_8B, 128), (LLAMA_8B, 64), (QWEN3_30B_A3B, 32))
ROUNDS = 2
TRANSFORMERS_ON_CPU = {"num_blocks": 64, "page_size": 32, "max_batch_tokens": 256}
"""On a GPU it sizes its cache by the free memory; on a CPU that would be all of it."""


def continuous_cases(
    wanted: Sequence[tuple[Shape, int]] = WANTED, *, prompt_tokens: int = 512, output_tokens: int = 128, seconds: float = 60
) -> list[Case]:
    """A case for each model and number of sequences."""
    return [
        Case(
            part=RUNTIME,
            name=f"continuous/{shape.name}-{sequences}",
            seconds=seconds,
            after=((CEILINGS, "read"),),
            run=partial(time_continuous, shape, sequences, prompt_tokens, output_tokens),
        )
        for shape, sequences in wanted
    ]


def time_continuous(shape: Shape, sequences: int, prompt_tokens: int, output_tokens: int, bench: Bench) -> Measured:
    """Seconds per output token of all sequences together, and of a decoding step of ours."""
    model = make_model(shape, bench.device)
    settings = ON_GPU if bench.device.type == "cuda" else ON_CPU
    session = session_of(
        model,
        max_tokens=prompt_tokens + output_tokens,
        batching=Batching(BatchPolicy.CONTINUOUS, sequences, token_budget=max(4096, 2 * sequences)),
        **settings,
    )
    jobs = equal_jobs(model.config.vocab_size, sequences, prompt_tokens, output_tokens)
    warm = [replace(job, output_tokens=4) for job in jobs[:4]]
    serve(session, warm, concurrency=None)
    serve(session, jobs, concurrency=None)  # whatever is captured or compiled for this batch
    theirs_settings: Mapping[str, int] = {} if bench.device.type == "cuda" else TRANSFORMERS_ON_CPU
    ours, theirs, outcomes, why = [], [], [], ""
    for turn in range(ROUNDS):
        outcomes.append(serve(session, jobs, concurrency=None))
        ours.append(outcomes[-1].wall_s / outcomes[-1].decode_tokens)
        try:
            if not turn:
                batched_seconds(model, warm, theirs_settings)
            theirs.append(batched_seconds(model, jobs, theirs_settings))
        except Exception as error:  # noqa: BLE001 - a peer may refuse in any way; we only want to say so
            why = absent("transformers", error).why
    tokens = sequences * output_tokens
    steps = Timing(name="advisor-step", how="loop", seconds=tuple(step for outcome in outcomes for step in decoding_steps(outcome)))
    timings = (
        Timing(name="advisor", how="loop", calls=tokens, seconds=tuple(ours)),
        Timing(name="transformers", how="loop", calls=tokens, seconds=tuple(theirs)) if not why else absent("transformers", why),
        steps,
    )
    moved = step_bytes(model, shape.spec(), sequences).total(sequences, prompt_tokens + 3 * output_tokens // 4)
    floor = against_floor(steps, moved, bench.record(CEILINGS, "read"))
    idle = idle_in_trace(
        lambda: serve(session, [replace(job, output_tokens=min(24, output_tokens)) for job in jobs], concurrency=None), bench.device
    )
    return Measured(
        settings={
            "model": shape.name,
            "sequences": sequences,
            "prompt_tokens": prompt_tokens,
            "output_tokens": output_tokens,
            **recorded(settings),
        },
        timings=timings,
        values={
            "output_tokens_per_s": 1 / median(ours),
            **{name: value for name, value in floor.items() if name != "tokens_per_s"},
            "host_gap": median(outcome.host_gap_share for outcome in outcomes),
            "captured_share": outcomes[-1].captured_share,
            **({} if idle is None else {"idle_in_a_trace": idle}),
        },
        notes=notes_of(outcomes[-1]),
    )


def equal_jobs(vocabulary: int, count: int, prompt_tokens: int, output_tokens: int) -> list[GenerationRequest]:
    """Requests of one length with prompts of their own."""
    draw = torch.Generator().manual_seed(0)
    prompts = torch.randint(0, vocabulary, (count, prompt_tokens), generator=draw)
    return [GenerationRequest(tuple(prompt), output_tokens) for prompt in prompts.tolist()]


def decoding_steps(outcome: ServingResult) -> list[float]:
    """Seconds of the later half of the steps that only decode: all sequences are in flight in them."""
    longest = max(len(finished.tokens) for finished in outcome.finished)
    return list(outcome.step_seconds[-max(1, longest // 2) : -1]) or list(outcome.step_seconds[-1:])


def batched_seconds(model: Any, jobs: Sequence[GenerationRequest], settings: Mapping[str, int]) -> float:
    """Seconds per output token of transformers' continuous batching, from the first submission to the last result."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model.set_attn_implementation("sdpa")
    generation = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=max(job.output_tokens for job in jobs))
    config = ContinuousBatchingConfig(allow_block_sharing=False, **settings)
    manager = model.init_continuous_batching(generation_config=generation, continuous_batching_config=config)
    manager.start()
    try:
        return _collected(manager, jobs)
    finally:
        manager.stop(block=True)


def _collected(manager: Any, jobs: Sequence[GenerationRequest]) -> float:
    started, tokens, finished = time.perf_counter(), 0, 0
    for job in jobs:
        manager.add_request(list(job.prompt), max_new_tokens=job.output_tokens)
    while finished < len(jobs):
        result = manager.get_result(timeout=1)
        if result is None and not manager.is_running():
            raise RuntimeError("transformers' batching thread stopped")
        if result is not None and result.is_finished():
            finished += 1
            tokens += len(result.generated_tokens)
    wall = time.perf_counter() - started
    wanted = sum(job.output_tokens for job in jobs)
    if tokens != wanted:
        raise RuntimeError(f"transformers generated {tokens} tokens, not {wanted}")
    return wall / tokens

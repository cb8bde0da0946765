"""Serves a workload through the runtime and computes its latency and throughput metrics."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from statistics import fmean
from typing import TYPE_CHECKING

from advisor.backends.measure.cpu_pace import Pace
from advisor.backends.measure.spread import STATISTICS, bootstrap_value, mean_value
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.processes.jobs import repeat_step
from advisor.profiles.errors import AdvisorError
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis, Metrics, Sample, Value
from advisor.profiles.request import Load, Workload
from advisor.profiles.run import Recipe, Repeat

if TYPE_CHECKING:  # the runtime loads torch
    from advisor.backends.runtime.engine import ServingResult

LENGTHS_SEED = 20
LONE_PREFILLS = 5
"""Prompts that are prefilled one at a time for `prefill_tok_s`."""

OnProgress = Callable[[str, int, int], None]
"""Called with the step's name, how many of its items are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class MeasuredServing:
    """The metrics of a served workload and the samples they come from."""

    metrics: Metrics
    samples: tuple[Sample, ...]
    pace_s: float | None
    """Mean of the processor's pace while serving, as `Pace.mean_s`."""
    repeats: tuple[Repeat, ...] = ()


def serve_workload(
    session: LoadedModel,
    workload: Workload,
    recipe: Recipe,
    tokens: Sequence[int],
    on_progress: OnProgress,
    begin_repeat: Callable[[], None] = lambda: None,
) -> MeasuredServing:
    """Warm up, serve the workload `recipe.repeats` times and prefill a few prompts alone.

    Prompts are cut from `tokens` at random positions drawn from the recipe's seed, different ones in every repeat; those of one repeat
    share a prefix of `workload.shared_prefix_tokens`. `on_progress` is called after every step of the engine; `begin_repeat` returns when
    the next repeat may begin.
    Raises `AdvisorError` `text-too-short`, and what `serve` raises.
    """
    check_text(tokens, workload)
    pace = Pace()

    def sample_pace(step: str, done: int, total: int) -> None:
        pace.tick()
        on_progress(step, done, total)

    _serve(session, workload, recipe.warmup_requests, tokens, recipe.seed - 1, partial(on_progress, "warm-up"))
    outcomes = []
    for repeat in range(recipe.repeats):
        begin_repeat()
        report = partial(sample_pace, repeat_step(repeat, recipe))
        outcomes.append(_serve(session, workload, recipe.requests, tokens, recipe.seed + repeat, report))
    prefills = _lone_prefills(session, workload, tokens, recipe.seed)
    return MeasuredServing(
        workload_metrics(outcomes, prefills, recipe.seed, draft_tokens=session.decoding.draft_tokens, reuses=session.kv.prefix_reuse),
        tuple(done.sample for outcome in outcomes for done in outcome.finished),
        pace.mean_s,
        tuple(_repeat(outcome) for outcome in outcomes),
    )


def _repeat(outcome: "ServingResult") -> Repeat:
    samples = [done.sample for done in outcome.finished]
    per_token = [ms for sample in samples if (ms := sample.tpot_ms) is not None]
    return Repeat(
        throughput_tok_s=_output_rate(outcome),
        ttft_ms_mean=fmean(sample.ttft_ms for sample in samples),
        tpot_ms_mean=fmean(per_token) if per_token else None,
    )


def check_text(tokens: Sequence[int], workload: Workload) -> None:
    """Raise `AdvisorError` `text-too-short` when `tokens` are too few for two different prompts of the workload's longest length."""
    longest = longest_prompt(workload)
    if len(tokens) <= longest:
        raise AdvisorError("text-too-short", f"the text has {len(tokens)} tokens; prompts of {longest} cannot be cut from it")


def cut_prompts(tokens: Sequence[int], length: int, count: int, seed: int) -> list[tuple[int, ...]]:
    """`count` prompts of `length` tokens, cut from `tokens` at random positions drawn from `seed`."""
    draw = random.Random(seed)
    return [_cut(tokens, length, draw) for _ in range(count)]


def shared_prompts(tokens: Sequence[int], lengths: Sequence[int], shared: int, seed: int) -> list[tuple[int, ...]]:
    """A prompt of each length, cut from `tokens` at random positions drawn from `seed`; all begin with the same `shared` tokens.

    The last token of a prompt is never part of the shared prefix.
    """
    draw = random.Random(seed)
    prefix = _cut(tokens, shared, draw) if shared else ()
    return [(*prefix[: length - 1], *_cut(tokens, max(length - shared, 1), draw)) for length in lengths]


def _cut(tokens: Sequence[int], length: int, draw: random.Random) -> tuple[int, ...]:
    start = draw.randrange(len(tokens) - length + 1)
    return tuple(tokens[start : start + length])


def _serve(
    session: LoadedModel, workload: Workload, requests: int, tokens: Sequence[int], seed: int, on_progress: Callable[[int, int], None]
) -> "ServingResult":
    from advisor.backends.runtime.engine import GenerationRequest, serve

    lengths = request_lengths(workload, requests)
    prompts = shared_prompts(tokens, [prompt for prompt, _ in lengths], workload.shared_prefix_tokens or 0, seed)
    jobs = [GenerationRequest(prompt, output) for prompt, (_, output) in zip(prompts, lengths, strict=True)]
    return serve(
        session,
        jobs,
        concurrency=workload.concurrency if workload.load is Load.CLOSED else None,
        on_step=lambda progress: on_progress(progress.finished, progress.jobs),
        arrivals_s=arrival_times(workload, requests, seed),
    )


def longest_prompt(workload: Workload) -> int:
    """Tokens of the longest prompt that `request_lengths` gives."""
    if workload.trace is not None:
        return workload.trace.longest_prompt_tokens
    return math.ceil(workload.prompt_tokens * (1 + _spread(workload)))


def _spread(workload: Workload) -> float:
    """The spread of lengths, narrowed so that the longest prompt and output fit in the longest sequence."""
    return max(min(workload.length_spread, workload.longest_tokens / workload.context_tokens - 1), 0.0)


def request_lengths(workload: Workload, requests: int) -> list[tuple[int, int]]:
    """Prompt and output tokens of `requests` requests: the first ones of the trace, else uniform around the workload's by its spread.

    The spread is narrowed where a request of the longest prompt and output would exceed the longest sequence; the same call gives the
    same lengths.
    """
    if workload.trace is None:
        draw, spread = random.Random(LENGTHS_SEED), _spread(workload)

        def around(tokens: int) -> int:
            return max(int(tokens * draw.uniform(1 - spread, 1 + spread)), 1)

        if requests == 1 or spread == 0:
            return [(workload.prompt_tokens, workload.output_tokens)] * requests
        return [(around(workload.prompt_tokens), around(workload.output_tokens)) for _ in range(requests)]
    return [(request.prompt_tokens, request.output_tokens) for request in workload.trace.requests[:requests]]


def arrival_times(workload: Workload, requests: int, seed: int) -> list[float] | None:
    """Arrival times in seconds from the start: the trace's, or a Poisson process's at the workload's rate; `None` for a closed load."""
    if workload.trace is not None:
        return [request.arrival_s for request in workload.trace.requests[:requests]]
    if workload.load is not Load.OPEN or workload.request_rate_per_s is None:
        return None
    draw = random.Random(seed)
    return list(accumulate(draw.expovariate(workload.request_rate_per_s) for _ in range(requests)))


def _lone_prefills(session: LoadedModel, workload: Workload, tokens: Sequence[int], seed: int) -> list[float]:
    """Prompt tokens per second of prompts that are prefilled one at a time."""
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs: list[GenerationRequest] = [
        GenerationRequest(prompt, 1) for prompt in cut_prompts(tokens, workload.prompt_tokens, LONE_PREFILLS, seed)
    ]
    return [workload.prompt_tokens / done.sample.ttft_ms * 1e3 for done in serve(session, jobs, concurrency=1).finished]


def workload_metrics(
    outcomes: "Sequence[ServingResult]", prefills: Sequence[float], seed: int, *, draft_tokens: int = 0, reuses: bool = False
) -> Metrics:
    """Metrics of repeated runs; `prefills` are prompt tokens per second.

    A range covers the bootstrap interval over requests and the spread over repeats.
    """
    repeats = [[done.sample for done in outcome.finished] for outcome in outcomes]
    ttft = [[sample.ttft_ms for sample in samples] for samples in repeats]
    tpot = [[ms for sample in samples if (ms := sample.tpot_ms) is not None] for samples in repeats]
    proposed = [outcome for outcome in outcomes if outcome.proposed]
    e2e = [[sample.e2e_ms for sample in samples] for samples in repeats]
    latencies = (
        _latencies("ttft_ms", ttft, seed) | (_latencies("tpot_ms", tpot, seed) if all(tpot) else {}) | _latencies("e2e_ms", e2e, seed)
    )
    return Metrics(
        **latencies,
        throughput_tok_s=_throughput(outcomes, seed),
        decode_tok_s=_rate(latencies["tpot_ms_mean"]) if all(tpot) else None,
        prefill_tok_s=mean_value(prefills, least=0.0),
        kv_cache_gib=Value.exact(max(outcome.kv_used_bytes_peak for outcome in outcomes) / GIB, Basis.MEASURED),
        acceptance=mean_value([_acceptance(outcome, draft_tokens) for outcome in proposed], least=0.0, most=1.0) if proposed else None,
        prefix_hits=mean_value([_prefix_hits(outcome) for outcome in outcomes], least=0.0, most=1.0) if reuses else None,
    )


def _prefix_hits(outcome: "ServingResult") -> float:
    """Share of the prompt tokens that were cached; tokens recomputed after a preemption count too."""
    prompts = sum(done.sample.prompt_tokens for done in outcome.finished)
    return min(outcome.reused_tokens / prompts, 1.0)


def _acceptance(outcome: "ServingResult", draft_tokens: int) -> float:
    """Accepted draft tokens per decode step of a sequence, as a share of `draft_tokens`."""
    steps = outcome.decode_tokens - len(outcome.finished) - outcome.accepted
    return outcome.accepted / (steps * draft_tokens) if steps and draft_tokens else 0.0


def _latencies(metric: str, repeats: Sequence[Sequence[float]], seed: int) -> dict[str, Value]:
    return {f"{metric}_{name}": _pooled(repeats, statistic, seed) for name, statistic in STATISTICS.items()}


def _pooled(repeats: Sequence[Sequence[float]], statistic: Callable[[Sequence[float]], float], seed: int) -> Value:
    pooled = bootstrap_value([value for values in repeats for value in values], statistic, seed=seed)
    by_repeat = [statistic(values) for values in repeats]
    return pooled.model_copy(update={"low": min(pooled.low, *by_repeat), "high": max(pooled.high, *by_repeat)})


def _throughput(outcomes: "Sequence[ServingResult]", seed: int) -> Value:
    """Output tokens per second of wall time. Its range is that of one over the mean duration of a request (Little's law)."""
    rates = [_output_rate(outcome) for outcome in outcomes]
    spans = [[done.sample.last_token_s - done.sample.submitted_s for done in outcome.finished] for outcome in outcomes]
    rate, span = fmean(rates), _pooled(spans, fmean, seed)
    return Value(
        value=rate, low=min(*rates, rate * span.value / span.high), high=max(*rates, rate * span.value / span.low), basis=Basis.MEASURED
    )


def _output_rate(outcome: "ServingResult") -> float:
    """Output tokens per second of wall time."""
    return sum(len(done.tokens) for done in outcome.finished) / outcome.wall_s


def _rate(per_token: Value) -> Value:
    """Tokens per second of one request, from milliseconds per token."""
    return Value(value=1e3 / per_token.value, low=1e3 / per_token.high, high=1e3 / per_token.low, basis=per_token.basis)

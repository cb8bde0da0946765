"""Ends of ranges that a device's data sheet rules out: no prefill above its operations per second, no decoding above its bandwidth."""

from dataclasses import dataclass

from advisor.estimate.operators.types import Phase, StepPart
from advisor.estimate.steps.pricer import StepPricer
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Load, Workload

LEAST_SPAN, MOST_SPANS = 128, 256
"""Tokens of a span of a prompt, at least, and spans of a prompt, at most."""


@dataclass(frozen=True, slots=True)
class PhysicalBounds:
    """What no request and no replica can exceed, whatever the engine."""

    prefill_tok_s: float
    ttft_s: float
    """Least time to first token: that of computing its prompt."""
    tpot_s: float
    """Least time per output token: that of reading the weights once, and the cache of one sequence."""
    throughput_tok_s: float
    """Most output tokens per second of all replicas."""
    output_tokens: int

    @property
    def requests_per_s(self) -> float:
        """Most requests per second of all replicas."""
        return self.throughput_tok_s / self.output_tokens

    def applied(self, metrics: Metrics) -> Metrics:
        """The metrics with their ranges cut at the bounds; a value stays, so that a range never excludes it."""
        slowest = {
            "ttft": 1e3 * self.ttft_s,
            "tpot": 1e3 * self.tpot_s,
            "e2e": 1e3 * (self.ttft_s + (self.output_tokens - 1) * self.tpot_s),
        }
        fastest = {
            "prefill_tok_s": self.prefill_tok_s,
            "decode_tok_s": 1 / self.tpot_s if self.tpot_s else float("inf"),
            "throughput_tok_s": self.throughput_tok_s,
            "request_rate_per_s": self.requests_per_s,
        }
        present = metrics.present()
        changed = {name: at_most(present[name], most) for name, most in fastest.items() if name in present}
        for name, value in present.items():
            metric, _, rest = name.partition("_ms_")
            if rest and metric in slowest:
                changed[name] = _at_least(value, slowest[metric])
        return metrics.model_copy(update=changed)


def physical_bounds(pricer: StepPricer, workload: Workload, sequences: int, *, equal_lengths: bool) -> PhysicalBounds | None:
    """The bounds of a deployment under a workload while at most `sequences` run on a replica; `None` for a machine that was measured.

    Unless `equal_lengths`, requests may be shorter than the workload says: only the weights count then.
    """
    prompt, output = workload.prompt_tokens, max(workload.output_tokens, 1)
    alone = pricer.roofline(_prompt_parts(prompt, prompt))
    if alone is None:
        return None
    parallel, tokens = pricer.deployment.parallel, pricer.deployment.decoding.draft_tokens + 1
    same = equal_lengths and workload.load is not Load.TRACE
    own = max(prompt - (workload.shared_prefix_tokens or 0), 1)
    first = pricer.roofline(_prompt_parts(own, prompt)) if same else None
    weights, single, batch = (pricer.roofline((pricer.decode_part(*shape),)) for shape in ((1, 1), (1, prompt), (sequences, prompt)))
    assert weights is not None
    assert single is not None
    assert batch is not None
    cache_s = single.read_s - weights.read_s if same else 0.0
    prefill_s = first.compute_s if first is not None else 0.0
    per_token_s = max((weights.read_s / sequences + cache_s) / tokens, batch.compute_s / (sequences * tokens) + prefill_s / output)
    return PhysicalBounds(
        prefill_tok_s=parallel.pipeline * prompt / alone.sequential_s,
        ttft_s=first.sequential_s if first is not None else 0.0,
        tpot_s=(weights.read_s + cache_s) / tokens,
        throughput_tok_s=parallel.data * parallel.pipeline / per_token_s if per_token_s else float("inf"),
        output_tokens=output,
    )


def _prompt_parts(tokens: int, kv_tokens: int) -> tuple[StepPart, ...]:
    """A prompt of `tokens` new tokens in spans short enough that each of them attends to a window or a selection, not to the span."""
    span = max(LEAST_SPAN, -(-tokens // MOST_SPANS))
    return tuple(
        StepPart(Phase.PREFILL, 1, min(span, tokens - start), kv_tokens - tokens + min(start + span, tokens), start + span >= tokens)
        for start in range(0, tokens, span)
    )


def at_most(value: Value, most: float) -> Value:
    """A value whose range ends at `most`, or at the value itself where that is above."""
    return value if value.high <= most else value.model_copy(update={"high": max(most, value.value)})


def _at_least(value: Value, least: float) -> Value:
    return value if value.low >= least else value.model_copy(update={"low": min(least, value.value)})

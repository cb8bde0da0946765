"""Steady state of a deployment in closed form: what the search ranks thousands of stacks by, before the finalists are simulated."""

from dataclasses import dataclass

from advisor.backends.deployment import Deployment
from advisor.estimate.operators import Part
from advisor.estimate.steps import StepPricer
from advisor.profiles.request import Load, Workload

FIXED_POINT_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Steady:
    """Steady-state times, ms, and tokens per second."""

    ttft_ms_p95: float
    tpot_ms: float
    throughput_tok_s: float


def steady_state(
    pricer: StepPricer, deployment: Deployment, workload: Workload, *, slots: int, token_budget: int, request_s: float
) -> Steady:
    """Mean TPOT and throughput of `slots` busy slots, and the TTFT of a late one in the first burst."""
    replicas = deployment.parallel.data
    if workload.load is Load.OPEN:
        return _open(pricer, deployment, workload, slots, token_budget, request_s)
    wanted = -(-workload.concurrency // replicas) if workload.concurrency else slots
    steady = _busy(pricer, deployment, workload, min(slots, wanted), wanted, token_budget, request_s)
    return Steady(steady.ttft_ms_p95, steady.tpot_ms, steady.throughput_tok_s * replicas)


def _busy(
    pricer: StepPricer, deployment: Deployment, workload: Workload, batch: int, wanted: int, token_budget: int, request_s: float
) -> Steady:
    """`batch` slots always busy, `wanted` requests in flight."""
    prompt, output = workload.prompt_tokens, workload.output_tokens
    decode_s = pricer.decode_s(batch, prompt + output / 2)
    steps = (output - 1) / pricer.tokens_per_decode
    if deployment.batching.policy == "static":
        prefill_s = pricer.prefill_s(prompt, prompt)
        cycle_s = batch * prefill_s + steps * decode_s
        ttft_s = 0.95 * batch * prefill_s
        tpot_s = (steps * decode_s + (batch - 1) / 2 * prefill_s) / max(output - 1, 1)
    else:
        own_s, extra_s = _chunked_prefill(pricer, prompt, output, batch, token_budget, decode_s)
        cycle_s = own_s + (batch - 1) * extra_s + steps * decode_s
        ttft_s = max(1.0, 0.8 * batch) * own_s
        tpot_s = (cycle_s - own_s) / max(output - 1, 1)
    waiting_s = max(wanted / batch - 1, 0.0) * cycle_s
    return Steady((ttft_s + waiting_s + request_s) * 1e3, tpot_s * 1e3, batch * output / cycle_s)


def _chunked_prefill(pricer: StepPricer, prompt: int, output: int, batch: int, token_budget: int, decode_s: float) -> tuple[float, float]:
    """Seconds that a prompt takes to prefill among `batch` − 1 that decode, and what it adds to them."""
    others = batch - 1
    room = max(token_budget - others * (pricer.deployment.decoding.draft_tokens + 1), 1)
    chunk = min(prompt, room)
    chunks = prompt / chunk
    middle = max(int((prompt + chunk) / 2), chunk)
    parts = [Part("prefill", 1, chunk, middle)]
    if others:
        parts.append(pricer.decode_part(others, prompt + output / 2))
    own_s = chunks * pricer.step_s(tuple(parts))
    return own_s, max(own_s - (chunks * decode_s if others else 0.0), 0.0)


def _open(pricer: StepPricer, deployment: Deployment, workload: Workload, slots: int, token_budget: int, request_s: float) -> Steady:
    """Find how many requests are in flight by Little's law; an overloaded system fills its slots."""
    rate = (workload.request_rate_per_s or 1.0) / deployment.parallel.data
    batch = 1.0
    steady = _busy(pricer, deployment, workload, 1, 1, token_budget, request_s)
    for _ in range(FIXED_POINT_ROUNDS):
        batch = min(max(rate * (steady.tpot_ms * workload.output_tokens) / 1e3, 1.0), float(slots))
        steady = _busy(pricer, deployment, workload, round(batch), round(batch), token_budget, request_s)
    produced = min(rate * workload.output_tokens, steady.throughput_tok_s) * deployment.parallel.data
    queue = 1.0 if rate * workload.output_tokens <= steady.throughput_tok_s else 10.0
    return Steady(steady.ttft_ms_p95 * queue, steady.tpot_ms, produced)

"""Time of a simulated step in which prompts are prefilled while other sequences decode."""

from collections.abc import Sequence

from advisor.estimate.operators.types import StepPart
from advisor.estimate.serving.requests import DecodeSet, SimRequest
from advisor.estimate.steps.pricer import StepPricer


def mixed_step_s(pricer: StepPricer, running: DecodeSet, chunks: Sequence[tuple[SimRequest, int]], repeats: int) -> float:
    """Mean seconds of `repeats` equal steps, each with these chunks (a prompt and its tokens in the step) and all of `running`."""
    parts: dict[StepPart, int] = {}
    for request, tokens in chunks:
        middle = request.prefilled + tokens * (repeats + 1) // 2
        part = pricer.chunk_part(tokens, max(middle, tokens), request.prefilled + tokens * repeats >= request.prefill_tokens)
        parts[part] = parts.get(part, 0) + 1
    step = [StepPart(part.phase, count, part.q_tokens, part.kv_tokens, part.sampled) for part, count in parts.items()]
    drafting = 0.0
    if len(running):
        step.append(pricer.decode_part(len(running), running.mean_context))
        drafting = pricer.draft_s(len(running), running.mean_context)
    return pricer.step_s(tuple(step)) + drafting

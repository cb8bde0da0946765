"""Reasons to refuse that several techniques share."""

from advisor.backends.deployment import Deployment
from advisor.profiles.engines import load_engine
from advisor.profiles.request import Load, Request


def not_quantisable(deployment: Deployment, format: str) -> str | None:
    """Why this engine cannot store this checkpoint's weights in `format`."""
    native = deployment.model.weight_format
    if native not in ("bf16", "fp16", "fp32"):
        return f"The checkpoint is already in {native}; a second rounding would add to the first."
    engine = load_engine(deployment.engine)
    if not engine.runs(format):
        return f"{engine.name} {engine.versions} does not run {format} weights."
    return None


def without_attention(deployment: Deployment) -> str | None:
    """Why a technique of attention or its cache does not apply."""
    if deployment.model.attention_layers:
        return None
    return f"The model has no softmax attention in its {len(deployment.model.layers)} layers."


def not_speculative(request: Request, deployment: Deployment, method: str) -> str | None:
    """Why proposed tokens cannot be verified here."""
    recurrent = len(deployment.model.recurrent_layers)
    if recurrent:
        return f"{recurrent} layers keep a recurrent state, which cannot be rolled back when a proposal is rejected."
    if request.workload.output_tokens < 2:
        return "Only one token is wanted; there is nothing to speculate on."
    engine = load_engine(deployment.engine)
    if method not in engine.decoding:
        return f"{engine.name} {engine.versions} does not decode by {method}."
    return None


def nothing_to_batch(request: Request, deployment: Deployment, step_tokens: int) -> str | None:
    """Why batches that change at every step, of so many tokens, gain nothing."""
    workload = request.workload
    if workload.load is Load.CLOSED and workload.concurrency == 1:
        return "Only one request is in flight: there is nothing to batch it with."
    positions = deployment.decoding_positions
    if positions >= step_tokens:
        return f"{positions} decoding positions leave nothing of a step of {step_tokens} tokens for prompts."
    return None

"""Working memory of a step, in addition to weights and caches: activations, logits, buffers of experts."""

from advisor.backends.deployment import Deployment
from advisor.estimate.operators.structure import is_routed, structure_of
from advisor.profiles.engine_parts import Trial
from advisor.profiles.engines import EngineProfile
from advisor.profiles.request import Workload

ACTIVATION_PASSES = 11
"""Buffers of hidden size that are live at once, per token of a step (aiconfigurator: c = 11 for Llama at TP 1)."""
TRIAL_PASSES = 4
"""Buffers of hidden size that are live while an MLP runs, without its own three: input, residual, and two of the norm before."""
LOGIT_BYTES = 4
"""Logits are fp32."""


def activation_bytes(deployment: Deployment, workload: Workload, engine: EngineProfile, sequences: int) -> float:
    """Bytes that the largest step needs on one device while `sequences` run.

    An engine that reserves memory by a trial step at start-up (vLLM's profile run) reserves that step's, whatever the workload.
    """
    if engine.trial is not None:
        return (
            0.0
            if engine.trial.outside_memory_share
            else trial_bytes(deployment, engine.trial, most_step_tokens(deployment, workload, engine))
        )
    tokens = min(workload.prompt_tokens, most_step_tokens(deployment, workload, engine)) + sequences
    model, ranks = deployment.model, deployment.parallel.tensor
    hidden = deployment.element_bytes * tokens * (ACTIVATION_PASSES * model.hidden_size + 2 * structure_of(model).widest / ranks)
    positions = deployment.decoding.draft_tokens + 1
    return hidden + LOGIT_BYTES * sequences * positions * model.vocab_size


def most_step_tokens(deployment: Deployment, workload: Workload, engine: EngineProfile) -> int:
    """Tokens of the largest step: the token budget, or the longest sequence where prompts are not chunked."""
    budget = deployment.batching.token_budget or engine.token_budget
    return budget if deployment.batching.chunked else max(budget, workload.longest_tokens)


def trial_bytes(deployment: Deployment, trial: Trial, tokens: int) -> float:
    """Bytes of a trial step of `tokens` tokens: the larger of an MLP and of sampling for every sequence, plus buffers of experts.

    An MLP holds gate, up and their product besides hidden states. Every device holds the logits of the whole vocabulary.
    """
    model, ranks = deployment.model, deployment.parallel.tensor
    layers = deployment.element_bytes * tokens * (3 * _inner_features(deployment) / ranks + TRIAL_PASSES * model.hidden_size)
    rows = min(deployment.batching.max_sequences * (deployment.decoding.draft_tokens + 1), tokens)
    sampling = deployment.element_bytes * tokens * model.hidden_size + trial.logit_bytes * rows * model.vocab_size
    return max(layers, sampling) + (_expert_bytes(deployment, tokens) if trial.expert_workspace else 0.0)


def _inner_features(deployment: Deployment) -> int:
    """Inner features of the widest MLP, or a third of the widest other projection where that is more."""
    matrices = structure_of(deployment.model).matrices
    inner = max((matrix.n for matrix, _ in matrices if matrix.kind in ("mlp", "shared-expert")), default=0)
    others = max((matrix.n for matrix, _ in matrices if matrix.kind in ("attention", "mixer")), default=0)
    return max(inner, others // 3)


def _expert_bytes(deployment: Deployment, tokens: int) -> float:
    """Bytes of the two buffers of fused experts, a row for each token and expert: before and after the activation, reused for outputs."""
    routed = [matrix for matrix, _ in structure_of(deployment.model).matrices if is_routed(matrix)]
    if not routed:
        return 0.0
    parallel = deployment.parallel
    down = next((matrix for matrix in routed if matrix.name == "down_proj"), routed[-1])
    hidden, inner = down.n, down.k
    slices = parallel.tensor if parallel.expert <= parallel.tensor else 1
    wide = max(2 * inner / slices, hidden) + max(inner / slices, hidden)
    return deployment.element_bytes * tokens * max(matrix.active for matrix in routed) * wide

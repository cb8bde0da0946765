"""How much of a sequence the paged cache of a deployment retains: all of it, or sink tokens and a window in whole blocks."""

from advisor.backends.deployment import BatchPolicy, CacheRetention, Deployment, KvLayout
from advisor.profiles.engines import EngineProfile
from advisor.profiles.request import Workload


def retention_of(deployment: Deployment) -> CacheRetention | None:
    """The rule by which blocks outside the window are freed; `None` where a sequence retains all of its blocks."""
    kv = deployment.kv
    if kv.layout == KvLayout.CONTIGUOUS:
        return None
    if kv.window is not None:
        return CacheRetention(kv.window, kv.sink_tokens)
    return CacheRetention(deployment.attention.window) if deployment.attention.window is not None else None


def retained_tokens(deployment: Deployment, tokens: int) -> int:
    """Tokens, in whole blocks, that the cache holds of a sequence of `tokens` while it decodes; draft tokens count as new."""
    retention, block = retention_of(deployment), max(deployment.kv.block_tokens, 1)
    if retention is None:
        return tokens
    return min(tokens, retention.blocks(tokens, block, new=1 + deployment.decoding.draft_tokens) * block)


def transient_tokens(deployment: Deployment, workload: Workload, engine: EngineProfile) -> int:
    """Tokens that the cache holds of a prompt being prefilled, beyond those it retains: of the whole prompt, or of one step's chunk."""
    prompt, batching = workload.prompt_tokens, deployment.batching
    whole = batching.policy == BatchPolicy.STATIC or not batching.chunked
    step = prompt if whole else batching.token_budget or engine.token_budget
    return min(step, max(prompt - retained_tokens(deployment, prompt), 0))

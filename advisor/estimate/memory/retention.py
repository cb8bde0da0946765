"""What the caches of a deployment keep of a sequence: all of it, or a window and first tokens in whole blocks."""

from advisor.backends.deployment import BatchPolicy, CacheRetention, Deployment, KvLayout
from advisor.profiles.engines import EngineProfile
from advisor.profiles.request import Workload


def retention_of(deployment: Deployment) -> CacheRetention | None:
    """The rule by which blocks are given back; `None` where a sequence keeps all that its layers may see."""
    kv = deployment.kv
    if kv.layout == KvLayout.CONTIGUOUS:
        return None
    if kv.window is not None:
        return CacheRetention(kv.window, kv.sink_tokens)
    return CacheRetention(deployment.attention.window) if deployment.attention.window is not None else None


def retained_tokens(deployment: Deployment, tokens: int) -> int:
    """Tokens of a sequence of `tokens` that its blocks hold while it decodes, drafts included."""
    kept, block = retention_of(deployment), max(deployment.kv.block_tokens, 1)
    if kept is None:
        return tokens
    return min(tokens, kept.blocks(tokens, block, new=1 + deployment.decoding.draft_tokens) * block)


def transient_tokens(deployment: Deployment, workload: Workload, engine: EngineProfile) -> int:
    """Tokens that prompts hold beyond what stays of them while they pass: one whole prompt, or one step's chunks."""
    prompt, batching = workload.prompt_tokens, deployment.batching
    whole = batching.policy == BatchPolicy.STATIC or not batching.chunked
    step = prompt if whole else batching.token_budget or engine.token_budget
    return min(step, max(prompt - retained_tokens(deployment, prompt), 0))

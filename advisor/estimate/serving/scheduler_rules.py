"""The rules of an engine's scheduler: what `scheduler.Scheduler` simulates."""

from dataclasses import dataclass

from advisor.backends.deployment import BatchPolicy, CacheRetention
from advisor.estimate.serving.requests import UNLIMITED_POOL, SimPool


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerRules:
    """How an engine schedules a deployment."""

    policy: BatchPolicy
    max_sequences: int
    """Most requests that run at once on a replica (vLLM: max_num_seqs)."""
    token_budget: int
    """Most tokens of one step (vLLM: max_num_batched_tokens)."""
    request_s: float = 0.0
    """Seconds of a request outside of its steps, before its first token."""
    wait_steps: float = 0.0
    """Decoding steps that a request waits before its first step, in addition to the engine's `Overheads.wait_steps`."""
    chunked: bool = True
    """Whether prompts are prefilled in chunks that fit in the budget."""
    shared_tokens: int = 0
    """Tokens, in full blocks, of a prefix that all prompts share: prompts after the first find it in the cache."""
    block_tokens: int = 1
    pool: SimPool = UNLIMITED_POOL
    retention: CacheRetention | None = None
    """What the cache retains of a sequence; `None` for all of it."""

"""The paged cache of one replica as the simulated scheduler sees it: blocks, and what a sequence takes of them."""

from advisor.backends.deployment import Deployment, KvLayout
from advisor.estimate.memory.cache import block_tokens
from advisor.estimate.memory.capacity import MemoryBudget
from advisor.estimate.memory.ledger import ledger, shared_bytes, shared_tokens
from advisor.estimate.serving.requests import UNLIMITED_POOL, SimPool
from advisor.profiles.request import Load, Workload


def cache_pool(memory: MemoryBudget, deployment: Deployment, workload: Workload) -> SimPool:
    """The blocks that one replica has for caches; unlimited where the number of running sequences already bounds them.

    A sequence's memory is taken as linear in its length between the workload's shortest and longest: exact for plain attention, a
    chord where sliding windows fill up on the way. The constant part is that of recurrent states and full windows.
    """
    engine, footprint, block = memory.engine, memory.footprint(deployment, workload), block_tokens(deployment, memory.engine)
    bounded_by_sequences = not engine.preempts and workload.load is not Load.TRACE
    if bounded_by_sequences or deployment.kv.layout == KvLayout.CONTIGUOUS or memory.max_sequences(deployment, workload) == 0:
        return UNLIMITED_POOL
    shortest, longest = (-(-tokens // block) for tokens in (workload.prompt_tokens, workload.longest_tokens))
    longest, shared = max(longest, shortest + 1), shared_tokens(deployment, workload, engine)
    least, most = (_cache_bytes(memory, deployment, workload, blocks * block) for blocks in (shortest, longest))
    per_block = (most - least) / (longest - shortest)
    if per_block <= 0:
        return UNLIMITED_POOL
    running, once = memory.running_sequences(deployment, workload), shared_bytes(deployment, workload, engine)
    outside_cache = footprint.sequence_bytes + once - _cache_bytes(memory, deployment, workload, workload.longest_tokens)
    return SimPool(
        blocks=max(memory.usable_bytes(footprint) - footprint.fixed_bytes - running * outside_cache, 0.0) / per_block,
        block_tokens=block,
        fixed_blocks=max(least / per_block - shortest, 0.0) - shared // block,
        reserves=not engine.preempts,
    )


def _cache_bytes(memory: MemoryBudget, deployment: Deployment, workload: Workload, tokens: int) -> float:
    """Bytes on each device of the cache of one sequence of `tokens`."""
    single = workload.model_copy(update={"prompt_tokens": tokens, "output_tokens": 0, "context_limit_tokens": None})
    parts = ledger(deployment, single, memory.engine, 1)
    return parts.kv_bytes - parts.transient_bytes

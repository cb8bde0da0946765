"""How many sequences fit in the memory of a replica, and how many of them run, by the rules of the engine."""

from copy import copy
from dataclasses import dataclass

from advisor.backends.deployment import Deployment, KvLayout
from advisor.estimate.memory.cache import block_tokens
from advisor.estimate.memory.ledger import Footprint, Ledger, footprint, ledger, reused_tokens, sequence_tokens, shared_tokens
from advisor.profiles.engines import EngineProfile
from advisor.profiles.request import Load, Workload


@dataclass(frozen=True, slots=True)
class Capacity:
    """What fits in memory."""

    ledger: Ledger
    """Memory of the fullest device while `running_sequences` run."""
    max_sequences: int
    """Requests of the workload that one replica can hold at once at full length; 0 where not even one fits."""
    running_sequences: int
    """Requests that one replica runs at once, on average."""


@dataclass(frozen=True, slots=True)
class CacheSize:
    """For how many requests of which length a paged cache is sized, on one replica."""

    sequences: int
    """Requests that run at once."""
    tokens: int
    """Tokens of each, in whole blocks."""
    longest_tokens: int
    """Tokens of the longest request."""

    @property
    def longest_at_once(self) -> int:
        """Requests of the longest length that the cache holds at once; beyond them the newest are preempted and recomputed."""
        return min(self.sequences * self.tokens // self.longest_tokens, self.sequences)


def cache_size(deployment: Deployment, workload: Workload, engine: EngineProfile) -> CacheSize | None:
    """The size of a deployment's paged cache; `None` where every running request has memory for the longest one."""
    tokens, sequences = sequence_tokens(deployment, workload, engine), deployment.batching.max_sequences
    if deployment.kv.layout == KvLayout.CONTIGUOUS or tokens >= workload.longest_tokens:
        return None
    return CacheSize(sequences, tokens, workload.longest_tokens)


class MemoryBudget:
    """The memory that an engine may use on each device, and what fits in it."""

    def __init__(self, engine: EngineProfile, device_bytes: float, limit_bytes: float | None = None) -> None:
        """`device_bytes` is the usable memory of one device, of which `limit_bytes` may be used."""
        self.engine = engine
        self.memory_share = engine.share_on(device_bytes)
        usable = device_bytes * (self.memory_share if engine.memory_share_of == "total" else 1.0)
        self.budget_bytes = min(usable, limit_bytes) if limit_bytes else usable
        self._footprints: dict[tuple[Deployment, Workload], Footprint] = {}

    def with_extra(self, extra_bytes: float) -> "MemoryBudget":
        """The same with `extra_bytes` more on each device. Both share cached footprints, which do not depend on the budget."""
        larger = copy(self)
        larger.budget_bytes += extra_bytes
        return larger

    def capacity(self, deployment: Deployment, workload: Workload) -> Capacity:
        """How many requests fit and run, and the memory that they take."""
        memory, running = self.footprint(deployment, workload), self.running_sequences(deployment, workload)
        # Engines that preempt run more sequences, half written on average, in the memory of fewer whole ones.
        whole = min(running, max(memory.max_sequences(self.usable_bytes(memory)), 1)) if self.engine.preempts else running
        return Capacity(ledger(deployment, workload, self.engine, whole), self.max_sequences(deployment, workload), running)

    def max_sequences(self, deployment: Deployment, workload: Workload) -> int:
        """Requests that one replica can hold at once at full length, with what the engine reserves for each; 0 where not even one fits."""
        memory = self.footprint(deployment, workload).reserving()
        return memory.max_sequences(self.usable_bytes(memory))

    def running_sequences(self, deployment: Deployment, workload: Workload) -> int:
        """Requests that one replica runs at once, on average: the lesser of those requested and those that fit; at least 1."""
        return self.running_sequences_within(self.footprint(deployment, self.average_workload(workload)), deployment, workload)

    def running_sequences_within(self, average: Footprint, deployment: Deployment, workload: Workload) -> int:
        """`running_sequences` from the footprint of `average_workload`."""
        return max(min(self.requested_sequences(deployment, workload), average.max_sequences(self.usable_bytes(average))), 1)

    def average_workload(self, workload: Workload) -> Workload:
        """The workload with the lengths that sequences have on average: outputs half written where the engine preempts.

        An engine that does not preempt admits a request only once its whole output fits.
        """
        if not self.engine.preempts:
            return workload
        return workload.model_copy(update={"output_tokens": max(workload.output_tokens // 2, 1), "context_limit_tokens": None})

    def requested_sequences(self, deployment: Deployment, workload: Workload) -> int:
        """Requests that one replica would run at once with unlimited memory."""
        requested = deployment.batching.max_sequences
        if workload.load in (Load.CLOSED, Load.BURST) and workload.concurrency is not None:
            requested = min(requested, -(-workload.concurrency // deployment.parallel.data))
        return requested

    def requested_bytes(self, deployment: Deployment, workload: Workload) -> float:
        """Bytes on each device with all requested sequences, whether they fit or not."""
        return self.footprint(deployment, workload).total_bytes(self.requested_sequences(deployment, workload))

    def requested_ledger(self, deployment: Deployment, workload: Workload) -> Ledger:
        """`requested_bytes` part by part."""
        return ledger(deployment, workload, self.engine, self.requested_sequences(deployment, workload))

    def footprint(self, deployment: Deployment, workload: Workload) -> Footprint:
        """Bytes on each device as a function of the sequences; cached."""
        key = (deployment, workload)
        memory = self._footprints.get(key)
        if memory is None:
            memory = self._footprints[key] = footprint(deployment, workload, self.engine)
        return memory

    def usable_bytes(self, memory: Footprint) -> float:
        """Bytes of each device that the engine allocates in all: some engines leave a share of what weights leave free unused."""
        if self.engine.memory_share_of == "total":
            return self.budget_bytes
        return memory.fixed_bytes + self.memory_share * (self.budget_bytes - memory.fixed_bytes)

    def reused_tokens(self, deployment: Deployment, workload: Workload) -> int:
        """Tokens of a prompt of average length that prefix caching finds in the cache."""
        shared = shared_tokens(deployment, workload, self.engine)
        return reused_tokens(shared, workload.prompt_tokens, block_tokens(deployment, self.engine)) if shared else 0

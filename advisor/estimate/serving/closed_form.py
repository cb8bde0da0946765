"""Steady state of deployments in closed form: approximate serving metrics for thousands of stacks, before finalists are simulated.

Works on families: every array has an entry for each member; members have equal schedules and different step times. The
formulas approximate `simulate`.
"""

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from advisor.backends.deployment import BatchPolicy
from advisor.estimate.arrays import Indices, Numbers
from advisor.estimate.operators.types import Phase, StepPart
from advisor.estimate.serving.queueing import TAIL, batch_sizes_p95, batch_wait_s, prefill_wait_s, slot_wait_s
from advisor.estimate.serving.simulate import BURST_SHARE, ROUNDS, busy_replicas
from advisor.estimate.steps.batched import Family
from advisor.profiles.request import LENGTH_SPREAD, Load, Workload

BISECTION_STEPS = 6
LATE_REQUESTS = 860
"""Number of the request whose TTFT stands for the 95th percentile under overload, where each request waits longer than the one before:
that of the simulation, 95 % of the way through the 800 requests that count of 1,000."""


@dataclass(frozen=True, slots=True)
class SteadyState:
    """Steady-state times, ms, and tokens per second of all replicas."""

    ttft_ms_p95: float
    tpot_ms: float
    tpot_ms_p95: float
    throughput_tok_s: float
    capacity_tok_s: float
    """Tokens per second with every slot busy: an open load above this rate overloads the system."""


@dataclass(frozen=True, slots=True)
class SteadyStates:
    """`SteadyState` of each member of a family."""

    ttft_ms_p95: Numbers
    tpot_ms: Numbers
    tpot_ms_p95: Numbers
    throughput_tok_s: Numbers
    capacity_tok_s: Numbers

    def of(self, index: int) -> SteadyState:
        """The steady state of one member."""
        return SteadyState(*(float(numbers[index]) for numbers in _columns(self)))


@dataclass(frozen=True, slots=True)
class _BusyPeriod:
    """One replica while a constant number of its slots is taken, seconds."""

    prefill_s: Numbers
    """From the first step of a prompt to its first output token."""
    first_s: Numbers
    """95th percentile of the time from submission to the first token, the burst at the start included."""
    tpot_s: Numbers
    tpot_p95_s: Numbers
    cycle_s: Numbers
    """Time from a request's first step to its last: how long it takes its slot."""
    tok_s: Numbers

    def of(self, indices: Indices) -> "_BusyPeriod":
        """The entries of the members at these indices."""
        return _BusyPeriod(*(numbers[indices] for numbers in _columns(self)))


def _columns(record: SteadyStates | _BusyPeriod) -> list[Numbers]:
    return [getattr(record, field.name) for field in fields(record)]


def steady_state(
    family: Family, workload: Workload, *, policy: BatchPolicy, slots: int, token_budget: int, chunked: bool = True, reused: int = 0
) -> SteadyStates:
    """TPOT, throughput and 95th percentile of TTFT of a workload on each member.

    `policy` is that of `Batching`, `slots` the most sequences that run at once on a replica, `token_budget` the most tokens of a step.
    Prompts are cut to fit in the budget where `chunked`; prefix caching finds `reused` tokens of each in the cache.
    """
    overheads, replicas = family.first.machine.overheads, family.first.deployment.parallel.data
    lengths = workload.prompt_tokens, workload.output_tokens
    loop = ServingLoop(family, policy == BatchPolicy.STATIC, *lengths, token_budget, chunked, reused, workload.length_spread)
    if workload.arrivals_per_s is not None:
        states = _open(loop, workload.arrivals_per_s / replicas, slots)
    else:
        requested = -(-workload.concurrency // replicas) if workload.concurrency else slots
        states = _closed(loop, min(slots, requested), requested if workload.load is Load.CLOSED else slots)
    wait_steps = 0.0 if workload.load is Load.CLOSED and workload.concurrency == 1 else overheads.wait_steps
    delay_ms = wait_steps * family.first.tokens_per_decode * states.tpot_ms + 1e3 * overheads.request_s
    return replace(
        states,
        ttft_ms_p95=states.ttft_ms_p95 + delay_ms,
        throughput_tok_s=states.throughput_tok_s * busy_replicas(workload, replicas),
        capacity_tok_s=states.capacity_tok_s * replicas,
    )


def burst_position_p95(in_flight: int) -> float:
    """Position in the first burst of the request at the 95th percentile of all counted ones; 0 where that one is not of the burst."""
    counted = -(-in_flight // BURST_SHARE)
    rank_from_top = TAIL * (counted + (ROUNDS - 1) * in_flight - 1)
    return max(BURST_SHARE * (counted - 1 - rank_from_top) + 1, 0.0) if in_flight > 1 else 1.0


@dataclass(frozen=True, slots=True)
class ServingLoop:
    """Requests of one shape on one replica of each member of a family. Lengths in tokens."""

    family: Family
    static: bool
    prompt: int
    output: int
    token_budget: int
    chunked: bool = True
    reused: int = 0
    length_spread: float = LENGTH_SPREAD
    """Lengths of requests differ by this share either way: the shortest of a static batch waits for the longest."""

    @property
    def prefill_tokens(self) -> int:
        """Tokens of a prompt that are prefilled."""
        return self.prompt - self.reused

    @property
    def steps(self) -> float:
        """Decoding steps of one request."""
        return (self.output - 1) / self.family.first.tokens_per_decode

    def busy(self, batch: int, in_flight: int) -> _BusyPeriod:
        """`batch` slots are always taken; the first `in_flight` requests were submitted together."""
        return self._static(batch) if self.static else self._continuous(batch, in_flight)

    def busy_by_member(self, batches: Indices) -> _BusyPeriod:
        """Each member with its own number of slots taken; requests were submitted one by one."""
        periods = np.empty((len(fields(_BusyPeriod)), len(batches)))
        for batch in np.unique(batches):
            members = np.flatnonzero(batches == batch)
            periods[:, members] = _columns(self.of(members).busy(int(batch), 1))
        return _BusyPeriod(*periods)

    def decode_s_by_member(self, batches: Indices) -> Numbers:
        """`decode_s` of each member with its own number of sequences; 0 where a sequence decodes alone, for which no prompt waits."""
        seconds = np.zeros(len(batches))
        for batch in np.unique(batches[batches > 1]):
            members = np.flatnonzero(batches == batch)
            seconds[members] = self.of(members).decode_s(int(batch))
        return seconds

    def of(self, indices: Indices) -> "ServingLoop":
        """The loop of the members at these indices."""
        return self if len(indices) == len(self.family) else replace(self, family=self.family.of(indices))

    def decode_s(self, batch: int) -> Numbers:
        """Seconds of a step in which `batch` sequences decode, half of their output tokens generated."""
        return self.family.decode_s(batch, self.prompt + self.output / 2)

    def mixed_s(self, decoding: int, prompts: int, tokens: int) -> Numbers:
        """Seconds of a step with a chunk of `tokens` of each of `prompts`, half prefilled, and `decoding` sequences that decode."""
        middle = max((self.reused + self.prompt + tokens) // 2, tokens)
        parts = [StepPart(Phase.PREFILL, prompts, tokens, middle)]
        if not decoding:
            return self.family.step_s(tuple(parts))
        context = self.prompt + self.output / 2
        parts.append(self.family.first.decode_part(decoding, context))
        return self.family.step_s(tuple(parts)) + self.family.draft_s(decoding, context)

    def prefill_budget(self, decoding: float) -> int:
        """Prompt tokens that fit in a step in which `decoding` sequences decode."""
        return max(int(self.token_budget - decoding * (self.family.first.deployment.decoding.draft_tokens + 1)), 1)

    def _static(self, batch: int) -> _BusyPeriod:
        """Static batching: the first sequence to finish waits longest for the next batch, and its successor is prefilled first.

        TTFT is taken as a straight line from the first request of a batch to the last.
        """
        prefill_s = self.family.prefill_s(self.prefill_tokens, self.prompt)
        decoding_s = self.steps * self.decode_s(batch)
        waits_s = 2 * self.length_spread * (batch - 1) / (batch + 1) * decoding_s
        early_s, late_s = waits_s + prefill_s, batch * prefill_s
        first_s = (1 - TAIL) * np.maximum(early_s, late_s) + TAIL * np.minimum(early_s, late_s)
        cycle_s = batch * prefill_s + decoding_s
        tpot_s, tpot_p95_s = ((decoding_s + share * (batch - 1) * prefill_s) / max(self.output - 1, 1) for share in (0.5, 1 - TAIL))
        return _BusyPeriod(prefill_s, first_s, tpot_s, tpot_p95_s, cycle_s, batch * self.output / cycle_s)

    def _continuous(self, batch: int, in_flight: int) -> _BusyPeriod:
        """Continuous batching: prompts are prefilled one after another, each in `chunks` steps in which the others decode.

        A cycle prefills `batch` prompts. Where that takes longer than an output, fewer sequences decode and the others wait for prefill.
        """
        decoding, chunks = float(batch - 1), self._chunks(batch - 1)
        if decoding * chunks > self.steps:
            decoding, chunks = self._prefill_bound(batch)
        prefill_s = chunks * self.mixed_s(round(decoding), 1, self._chunk_tokens(decoding))
        if decoding < batch - 1:
            cycle_s, tpot_s = batch * prefill_s, decoding * prefill_s / max(self.output - 1, 1)
            waits_s = (batch - decoding) * prefill_s
        else:
            cycle_s = batch * prefill_s + (self.steps - decoding * chunks) * self.decode_s(batch)
            tpot_s, waits_s = (cycle_s - prefill_s) / max(self.output - 1, 1), prefill_s
        first_s = np.maximum(self._burst_wait_s(min(burst_position_p95(in_flight), batch), batch), waits_s)
        return _BusyPeriod(prefill_s, first_s, tpot_s, tpot_s, cycle_s, batch * self.output / cycle_s)

    def _chunks(self, decoding: float) -> float:
        """Steps that prefill one prompt."""
        return max(self.prefill_tokens / self._chunk_tokens(decoding), 1.0)

    def _chunk_tokens(self, decoding: float) -> int:
        """Tokens of one prompt in a step in which `decoding` sequences decode."""
        return min(self.prefill_tokens, self.prefill_budget(decoding)) if self.chunked else self.prefill_tokens

    def _prefill_bound(self, batch: int) -> tuple[float, float]:
        """Sequences that decode while prompts wait, and the steps of a prompt: an output takes as long as their prefills (bisection)."""
        low, high = 0.0, float(batch - 1)
        for _ in range(BISECTION_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if middle * self._chunks(middle) < self.steps else (low, middle)
        return low, self._chunks(low)

    def _burst_wait_s(self, position: float, batch: int) -> Numbers:
        """Time to the first token of the request at `position` of `batch` that were submitted together.

        The prompts of the first step compute all of a shared prefix; later ones find it in the cache.
        """
        if not self.reused:
            return self._prefill_queue_s(position, batch)
        uncached = replace(self, reused=0)
        first = max(uncached.prefill_budget(0) // self.prompt, 1)
        if position <= first:
            return uncached._prefill_queue_s(position, batch)
        return uncached._prefill_queue_s(first, batch) + self._prefill_queue_s(position - first, batch)

    def _prefill_queue_s(self, position: float, batch: int) -> Numbers:
        """Time until the prompts up to `position` in the queue are prefilled, while half of them decode already."""
        decoding = int(position / 2)
        budget = self.prefill_budget(decoding)
        if budget < self.prefill_tokens:
            return max(position, 1.0) * self._chunks(decoding) * self.mixed_s(decoding, 1, self._chunk_tokens(decoding))
        together = min(budget // self.prefill_tokens, batch)
        if position <= together:
            return self.mixed_s(0, together, self.prefill_tokens)
        return math.ceil(position / together) * self.mixed_s(decoding, together, self.prefill_tokens)


def _closed(loop: ServingLoop, batch: int, in_flight: int) -> SteadyStates:
    """A closed loop: `in_flight` requests, of which `batch` run and the others wait for a slot."""
    busy = loop.busy(batch, in_flight)
    waiting_s = max(in_flight / batch - 1, 0.0) * busy.cycle_s
    first_s = np.maximum(busy.first_s, waiting_s + busy.prefill_s)
    return SteadyStates(first_s * 1e3, busy.tpot_s * 1e3, busy.tpot_p95_s * 1e3, busy.tok_s, busy.tok_s)


def _open(loop: ServingLoop, rate: float, slots: int) -> SteadyStates:
    """Poisson arrivals, `rate` per second on a replica. Where that is overload, all slots are taken and the queue grows."""
    full = loop.busy(slots, slots)
    backlog_s = LATE_REQUESTS * (loop.output / full.tok_s - 1 / rate)
    states = np.array([(full.prefill_s + backlog_s) * 1e3, full.tpot_s * 1e3, full.tpot_p95_s * 1e3, full.tok_s, full.tok_s])
    stable = np.flatnonzero(rate * loop.output < full.tok_s)
    if len(stable):
        states[:, stable] = _columns(_below_capacity(loop.of(stable), full.of(stable), rate, slots))
    return SteadyStates(*states)


def _below_capacity(loop: ServingLoop, full: _BusyPeriod, rate: float, slots: int) -> SteadyStates:
    """Arrivals below capacity: the requests in flight follow from Little's law, the fewest whose throughput reaches the rate."""
    offered = rate * loop.output
    low, high = np.ones(len(loop.family), int), np.full(len(loop.family), slots)
    while len(undecided := np.flatnonzero(low < high)):
        middle = (low[undecided] + high[undecided]) // 2
        enough = loop.of(undecided).busy_by_member(middle).tok_s >= offered
        high[undecided], low[undecided] = np.where(enough, middle, high[undecided]), np.where(enough, low[undecided], middle + 1)
    busy, busiest = loop.busy_by_member(low), loop.busy_by_member(batch_sizes_p95(low, slots))
    if loop.static:
        wait_s = batch_wait_s(busy.cycle_s, busy.prefill_s, low, rate)
    else:
        wait_s = prefill_wait_s(busy.prefill_s, loop.decode_s_by_member(low), rate)
    wait_s = wait_s + slot_wait_s(full.cycle_s, slots, offered / full.tok_s)
    throughput = np.full(len(loop.family), offered)
    return SteadyStates((busiest.prefill_s + wait_s) * 1e3, busy.tpot_s * 1e3, busiest.tpot_p95_s * 1e3, throughput, full.tok_s)

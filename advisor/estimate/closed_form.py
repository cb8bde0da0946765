"""Steady state of a deployment in closed form: what the search ranks thousands of stacks by, before the finalists are simulated."""

import math
from dataclasses import dataclass, replace

from advisor.backends.deployment import Deployment
from advisor.estimate.operators import Part
from advisor.estimate.serving import BURST_SHARE, ROUNDS
from advisor.estimate.steps import StepPricer
from advisor.profiles.request import Load, Workload

FIXED_POINT_ROUNDS = 6
TAIL = 0.05
"""Share of the requests that may be slower than the 95th percentile."""
LENGTH_SPREAD = 0.1
"""Lengths of requests differ by this share either way: who finishes first waits for the slowest of a static batch."""
LATE_REQUESTS = 860
"""Of requests that come faster than they can be served, each waits longer than the one before: the number of the one that is told."""


@dataclass(frozen=True, slots=True)
class Steady:
    """Steady-state times, ms, and tokens per second of all replicas."""

    ttft_ms_p95: float
    tpot_ms: float
    tpot_ms_p95: float
    throughput_tok_s: float
    capacity_tok_s: float
    """The most that could be produced with every slot busy: an open load that asks for more cannot be kept."""


@dataclass(frozen=True, slots=True)
class _Busy:
    """One replica with a constant number of requests in its slots, seconds."""

    own_s: float
    """From the first step of a prompt to its first token."""
    first_s: float
    """95th percentile of the time from submission to the first token, the burst at the start included."""
    tpot_s: float
    tpot_p95_s: float
    cycle_s: float
    """A request's whole time in its slot."""
    tok_s: float


def steady_state(
    pricer: StepPricer, deployment: Deployment, workload: Workload, *, slots: int, token_budget: int, request_s: float
) -> Steady:
    """TPOT and throughput of `slots` busy slots, and the TTFT that one request in twenty exceeds."""
    replicas = deployment.parallel.data
    loop = Loop(pricer, deployment.batching.policy == "static", workload.prompt_tokens, workload.output_tokens, token_budget)
    if workload.arrivals_per_s is not None:
        steady = _open(loop, workload.arrivals_per_s / replicas, slots)
    else:
        wanted = -(-workload.concurrency // replicas) if workload.concurrency else slots
        steady = _closed(loop, min(slots, wanted), wanted if workload.load is Load.CLOSED else slots)
    wait_steps = 0.0 if workload.load is Load.CLOSED and workload.concurrency == 1 else pricer.machine.overheads.wait_steps
    late_ms = wait_steps * pricer.tokens_per_decode * steady.tpot_ms + 1e3 * request_s
    return replace(
        steady,
        ttft_ms_p95=steady.ttft_ms_p95 + late_ms,
        throughput_tok_s=steady.throughput_tok_s * replicas,
        capacity_tok_s=steady.capacity_tok_s * replicas,
    )


def late_place(in_flight: int) -> float:
    """Where in the first burst the request stands that one in twenty of all counted ones is slower than; 0 when none of the burst is."""
    counted = -(-in_flight // BURST_SHARE)
    from_the_top = TAIL * (counted + (ROUNDS - 1) * in_flight - 1)
    return max(BURST_SHARE * (counted - 1 - from_the_top) + 1, 0.0) if in_flight > 1 else 1.0


@dataclass(frozen=True, slots=True)
class Loop:
    """Requests of one shape on one replica."""

    pricer: StepPricer
    static: bool
    prompt: int
    output: int
    token_budget: int

    @property
    def steps(self) -> float:
        """Decoding steps of one request."""
        return (self.output - 1) / self.pricer.tokens_per_decode

    def busy(self, batch: int, in_flight: int) -> _Busy:
        """`batch` slots always taken, the first `in_flight` requests submitted together."""
        return self._static(batch) if self.static else self._continuous(batch, in_flight)

    def decode_s(self, batch: int) -> float:
        """A step in which `batch` sequences decode, half of their answers written."""
        return self.pricer.decode_s(batch, self.prompt + self.output / 2)

    def mixed_s(self, decoding: int, prompts: int, tokens: int) -> float:
        """A step with chunks of `tokens` of so many prompts, half-way through, beside so many that decode."""
        middle = max((self.prompt + tokens) // 2, tokens)
        parts = [Part("prefill", prompts, tokens, middle)]
        if not decoding:
            return self.pricer.step_s(tuple(parts))
        context = self.prompt + self.output / 2
        parts.append(self.pricer.decode_part(decoding, context))
        return self.pricer.step_s(tuple(parts)) + self.pricer.draft_s(decoding, context)

    def room(self, decoding: float) -> int:
        """Prompt tokens that fit in a step beside so many that decode."""
        return max(int(self.token_budget - decoding * (self.pricer.deployment.decoding.draft_tokens + 1)), 1)

    def _static(self, batch: int) -> _Busy:
        """The first to finish of a batch waits longest for the next one and is prefilled first; TTFT is a line between the two ends."""
        prefill_s = self.pricer.prefill_s(self.prompt, self.prompt)
        decoding_s = self.steps * self.decode_s(batch)
        waits_s = 2 * LENGTH_SPREAD * (batch - 1) / (batch + 1) * decoding_s
        ends = (waits_s + prefill_s, batch * prefill_s)
        cycle_s = batch * prefill_s + decoding_s
        tpot_s, late_s = ((decoding_s + share * (batch - 1) * prefill_s) / max(self.output - 1, 1) for share in (0.5, 1 - TAIL))
        return _Busy(prefill_s, (1 - TAIL) * max(ends) + TAIL * min(ends), tpot_s, late_s, cycle_s, batch * self.output / cycle_s)

    def _continuous(self, batch: int, in_flight: int) -> _Busy:
        """Prompts pass one after another while the others decode: `batch` of them in a cycle, each in `chunks` steps.

        Where that alone takes longer than an answer, fewer decode and the others queue for their prefill.
        """
        decoding, chunks = float(batch - 1), self._chunks(batch - 1)
        if decoding * chunks > self.steps:
            decoding, chunks = self._prefill_bound(batch)
        own_s = chunks * self.mixed_s(round(decoding), 1, min(self.prompt, self.room(decoding)))
        if decoding < batch - 1:
            cycle_s, tpot_s = batch * own_s, decoding * own_s / max(self.output - 1, 1)
            queued_s = (batch - 1 - decoding) * own_s
        else:
            cycle_s = batch * own_s + (self.steps - decoding * chunks) * self.decode_s(batch)
            tpot_s, queued_s = (cycle_s - own_s) / max(self.output - 1, 1), 0.0
        first_s = max(self._burst_s(min(late_place(in_flight), batch), batch), own_s + queued_s)
        return _Busy(own_s, first_s, tpot_s, tpot_s, cycle_s, batch * self.output / cycle_s)

    def _chunks(self, decoding: float) -> float:
        """Steps that one prompt takes."""
        return max(self.prompt / self.room(decoding), 1.0)

    def _prefill_bound(self, batch: int) -> tuple[float, float]:
        """How many decode while prompts queue, and the steps of a prompt: an answer lasts as long as their prefills."""
        low, high = 0.0, float(batch - 1)
        for _ in range(FIXED_POINT_ROUNDS):
            middle = (low + high) / 2
            low, high = (middle, high) if middle * self._chunks(middle) < self.steps else (low, middle)
        return low, self._chunks(low)

    def _burst_s(self, place: float, batch: int) -> float:
        """Time to the first token of the request at `place` of `batch` that were submitted together."""
        decoding = int(place / 2)
        room = self.room(decoding)
        if room < self.prompt:
            return max(place, 1.0) * self._chunks(decoding) * self.mixed_s(decoding, 1, room)
        together = min(room // self.prompt, batch)
        if place <= together:
            return self.mixed_s(0, together, self.prompt)
        return math.ceil(place / together) * self.mixed_s(decoding, together, self.prompt)


def _closed(loop: Loop, batch: int, wanted: int) -> Steady:
    """`batch` slots always busy, `wanted` requests in flight."""
    busy = loop.busy(batch, wanted)
    waiting_s = max(wanted / batch - 1, 0.0) * busy.cycle_s
    first_s = max(busy.first_s, waiting_s + busy.own_s)
    return Steady(first_s * 1e3, busy.tpot_s * 1e3, busy.tpot_p95_s * 1e3, busy.tok_s, busy.tok_s)


def _open(loop: Loop, rate: float, slots: int) -> Steady:
    """Find how many requests are in flight by Little's law; an overloaded system fills its slots and its queue grows."""
    full = loop.busy(slots, slots)
    offered = rate * loop.output
    if offered >= full.tok_s:
        behind_s = LATE_REQUESTS * (loop.output / full.tok_s - 1 / rate)
        return Steady((full.own_s + behind_s) * 1e3, full.tpot_s * 1e3, full.tpot_p95_s * 1e3, full.tok_s, full.tok_s)
    low, high = 1, slots
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if loop.busy(middle, 1).tok_s >= offered else (middle + 1, high)
    busy, crowded = loop.busy(low, 1), loop.busy(_crowd(low, slots), 1)
    wait_s = _batch_wait_s(loop, busy, low, rate) if loop.static else _queue_s(loop, busy, low, rate)
    wait_s += _slot_wait_s(full, slots, offered / full.tok_s)
    return Steady((crowded.own_s + wait_s) * 1e3, busy.tpot_s * 1e3, crowded.tpot_p95_s * 1e3, offered, full.tok_s)


def _crowd(batch: int, slots: int) -> int:
    """Requests in flight at once that are exceeded one time in twenty, arrivals random (Poisson, normal tail)."""
    return min(math.ceil(batch + 1.645 * math.sqrt(batch)), slots)


def _queue_s(loop: Loop, busy: _Busy, batch: int, rate: float) -> float:
    """95th percentile of the wait for the step under way and the prompts before one's own: M/D/1, the rest of one service at low load."""
    taken = min(rate * busy.own_s, 1 - TAIL)
    tail_s = busy.own_s * taken / (2 * (1 - taken)) * max(math.log(taken / TAIL), 0.0)
    behind_one_s = busy.own_s * max(1 - TAIL / taken, 0.0) / (1 - taken)
    return max(tail_s, behind_one_s) + (loop.decode_s(batch) if batch > 1 else 0.0) * (1 - TAIL)


def _batch_wait_s(loop: Loop, busy: _Busy, batch: int, rate: float) -> float:
    """95th percentile of the wait for the batch under way, and for the prompts before one's own in the next."""
    under_way = min(rate * busy.cycle_s / batch, 1.0)
    waits_s = busy.cycle_s * max(1 - TAIL / under_way, 0.0)
    return max(waits_s, (batch - 1) * busy.own_s)


def _slot_wait_s(full: _Busy, slots: int, load: float) -> float:
    """95th percentile of the wait for a free slot: Sakasegawa's probability, halved for services of nearly equal length."""
    waits = load ** math.sqrt(2 * (slots + 1))
    return full.cycle_s / (2 * slots * max(1 - load, TAIL)) * max(math.log(waits / TAIL), 0.0) if waits > 0 else 0.0

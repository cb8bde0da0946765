"""Steady state of deployments in closed form: what the search ranks thousands of stacks by, before the finalists are simulated.

Works on families, a number per member: what they do is the same, only what it takes differs.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from advisor.estimate.operators.types import Phase, StepPart
from advisor.estimate.serving.simulate import BURST_SHARE, ROUNDS
from advisor.estimate.steps.batched import Family
from advisor.profiles.request import Load, Workload

if TYPE_CHECKING:  # numpy takes a tenth of a second to import; the functions that need it do
    from advisor.estimate.steps.batched import Numbers, Places

FIXED_POINT_ROUNDS = 6
TAIL = 0.05
"""Share of the requests that may be slower than the 95th percentile."""
LENGTH_SPREAD = 0.1
"""Lengths of requests differ by this share either way: who finishes first waits for the slowest of a static batch."""
LATE_REQUESTS = 860
"""Of requests that come faster than they can be served, each waits longer than the one before: the number of the one that is told."""


@dataclass(frozen=True, slots=True)
class SteadyState:
    """Steady-state times, ms, and tokens per second of all replicas."""

    ttft_ms_p95: float
    tpot_ms: float
    tpot_ms_p95: float
    throughput_tok_s: float
    capacity_tok_s: float
    """The most that could be produced with every slot busy: an open load that asks for more cannot be kept."""


@dataclass(frozen=True, slots=True)
class SteadyStates:
    """The same of each member of a family."""

    ttft_ms_p95: "Numbers"
    tpot_ms: "Numbers"
    tpot_ms_p95: "Numbers"
    throughput_tok_s: "Numbers"
    capacity_tok_s: "Numbers"

    def of(self, place: int) -> SteadyState:
        """One member's."""
        return SteadyState(*(float(numbers[place]) for numbers in _columns(self)))


@dataclass(frozen=True, slots=True)
class _BusyPeriod:
    """One replica with a constant number of requests in its slots, seconds."""

    own_s: "Numbers"
    """From the first step of a prompt to its first token."""
    first_s: "Numbers"
    """95th percentile of the time from submission to the first token, the burst at the start included."""
    tpot_s: "Numbers"
    tpot_p95_s: "Numbers"
    cycle_s: "Numbers"
    """A request's whole time in its slot."""
    tok_s: "Numbers"

    def of(self, places: "Places") -> "_BusyPeriod":
        """Some of the members."""
        return _BusyPeriod(*(numbers[places] for numbers in _columns(self)))


def _columns(record: SteadyStates | _BusyPeriod) -> "list[Numbers]":
    return [getattr(record, field.name) for field in fields(record)]


def steady_state(
    family: Family, workload: Workload, *, policy: str, slots: int, token_budget: int, chunked: bool = True, reused: int = 0
) -> SteadyStates:
    """TPOT and throughput of `slots` busy slots, and the TTFT that one request in twenty exceeds.

    Prompts are cut to fit in the budget where `chunked`, and `reused` tokens of each are in the cache when it comes.
    """
    overheads, replicas = family.first.machine.overheads, family.first.deployment.parallel.data
    loop = ServingLoop(family, policy == "static", workload.prompt_tokens, workload.output_tokens, token_budget, chunked, reused)
    if workload.arrivals_per_s is not None:
        steady = _open(loop, workload.arrivals_per_s / replicas, slots)
    else:
        wanted = -(-workload.concurrency // replicas) if workload.concurrency else slots
        steady = _closed(loop, min(slots, wanted), wanted if workload.load is Load.CLOSED else slots)
    wait_steps = 0.0 if workload.load is Load.CLOSED and workload.concurrency == 1 else overheads.wait_steps
    late_ms = wait_steps * family.first.tokens_per_decode * steady.tpot_ms + 1e3 * overheads.request_s
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
class ServingLoop:
    """Requests of one shape on one replica of each member of a family."""

    family: Family
    static: bool
    prompt: int
    output: int
    token_budget: int
    chunked: bool = True
    reused: int = 0

    @property
    def own(self) -> int:
        """Tokens of a prompt that are prefilled."""
        return self.prompt - self.reused

    @property
    def steps(self) -> float:
        """Decoding steps of one request."""
        return (self.output - 1) / self.family.first.tokens_per_decode

    def busy(self, batch: int, in_flight: int) -> _BusyPeriod:
        """`batch` slots always taken, the first `in_flight` requests submitted together."""
        return self._static(batch) if self.static else self._continuous(batch, in_flight)

    def each(self, batches: "Places") -> _BusyPeriod:
        """Each member with its own number of slots taken, one request after another."""
        # Deferred: see above.
        import numpy as np

        found = np.empty((len(fields(_BusyPeriod)), len(batches)))
        for batch in np.unique(batches):
            places = np.flatnonzero(batches == batch)
            found[:, places] = _columns(self.of(places).busy(int(batch), 1))
        return _BusyPeriod(*found)

    def of(self, places: "Places") -> "ServingLoop":
        """Some of the members."""
        return self if len(places) == len(self.family) else replace(self, family=self.family.of(places))

    def decode_s(self, batch: int) -> "Numbers":
        """A step in which `batch` sequences decode, half of their answers written."""
        return self.family.decode_s(batch, self.prompt + self.output / 2)

    def mixed_s(self, decoding: int, prompts: int, tokens: int) -> "Numbers":
        """A step with chunks of `tokens` of so many prompts, half-way through, beside so many that decode."""
        middle = max((self.reused + self.prompt + tokens) // 2, tokens)
        parts = [StepPart(Phase.PREFILL, prompts, tokens, middle)]
        if not decoding:
            return self.family.step_s(tuple(parts))
        context = self.prompt + self.output / 2
        parts.append(self.family.first.decode_part(decoding, context))
        return self.family.step_s(tuple(parts)) + self.family.draft_s(decoding, context)

    def room(self, decoding: float) -> int:
        """Prompt tokens that fit in a step beside so many that decode."""
        return max(int(self.token_budget - decoding * (self.family.first.deployment.decoding.draft_tokens + 1)), 1)

    def _static(self, batch: int) -> _BusyPeriod:
        """The first to finish of a batch waits longest for the next one and is prefilled first; TTFT is a line between the two ends."""
        # Deferred: see above.
        import numpy as np

        prefill_s = self.family.prefill_s(self.own, self.prompt)
        decoding_s = self.steps * self.decode_s(batch)
        waits_s = 2 * LENGTH_SPREAD * (batch - 1) / (batch + 1) * decoding_s
        early_s, late_s = waits_s + prefill_s, batch * prefill_s
        first_s = (1 - TAIL) * np.maximum(early_s, late_s) + TAIL * np.minimum(early_s, late_s)
        cycle_s = batch * prefill_s + decoding_s
        tpot_s, tpot_p95_s = ((decoding_s + share * (batch - 1) * prefill_s) / max(self.output - 1, 1) for share in (0.5, 1 - TAIL))
        return _BusyPeriod(prefill_s, first_s, tpot_s, tpot_p95_s, cycle_s, batch * self.output / cycle_s)

    def _continuous(self, batch: int, in_flight: int) -> _BusyPeriod:
        """Prompts pass one after another while the others decode: `batch` of them in a cycle, each in `chunks` steps.

        Where that alone takes longer than an answer, fewer decode and the others queue for their prefill.
        """
        # Deferred: see above.
        import numpy as np

        decoding, chunks = float(batch - 1), self._chunks(batch - 1)
        if decoding * chunks > self.steps:
            decoding, chunks = self._prefill_bound(batch)
        own_s = chunks * self.mixed_s(round(decoding), 1, self._chunk(decoding))
        if decoding < batch - 1:
            cycle_s, tpot_s = batch * own_s, decoding * own_s / max(self.output - 1, 1)
            waits_s = (batch - decoding) * own_s
        else:
            cycle_s = batch * own_s + (self.steps - decoding * chunks) * self.decode_s(batch)
            tpot_s, waits_s = (cycle_s - own_s) / max(self.output - 1, 1), own_s
        first_s = np.maximum(self._burst_wait_s(min(late_place(in_flight), batch), batch), waits_s)
        return _BusyPeriod(own_s, first_s, tpot_s, tpot_s, cycle_s, batch * self.output / cycle_s)

    def _chunks(self, decoding: float) -> float:
        """Steps that one prompt takes."""
        return max(self.own / self._chunk(decoding), 1.0)

    def _chunk(self, decoding: float) -> int:
        """Tokens of one prompt in a step beside so many that decode."""
        return min(self.own, self.room(decoding)) if self.chunked else self.own

    def _prefill_bound(self, batch: int) -> tuple[float, float]:
        """How many decode while prompts queue, and the steps of a prompt: an answer lasts as long as their prefills."""
        low, high = 0.0, float(batch - 1)
        for _ in range(FIXED_POINT_ROUNDS):
            middle = (low + high) / 2
            low, high = (middle, high) if middle * self._chunks(middle) < self.steps else (low, middle)
        return low, self._chunks(low)

    def _burst_wait_s(self, place: float, batch: int) -> "Numbers":
        """Time to the first token of the request at `place` of `batch` that were submitted together.

        Who stands in the first step computes all of a shared prefix; the others find it.
        """
        if not self.reused:
            return self._queue_wait_s(place, batch)
        alone = replace(self, reused=0)
        first = max(alone.room(0) // self.prompt, 1)
        if place <= first:
            return alone._queue_wait_s(place, batch)
        return alone._queue_wait_s(first, batch) + self._queue_wait_s(place - first, batch)

    def _queue_wait_s(self, place: float, batch: int) -> "Numbers":
        decoding = int(place / 2)
        room = self.room(decoding)
        if room < self.own:
            return max(place, 1.0) * self._chunks(decoding) * self.mixed_s(decoding, 1, self._chunk(decoding))
        together = min(room // self.own, batch)
        if place <= together:
            return self.mixed_s(0, together, self.own)
        return math.ceil(place / together) * self.mixed_s(decoding, together, self.own)


def _closed(loop: ServingLoop, batch: int, wanted: int) -> SteadyStates:
    """`batch` slots always busy, `wanted` requests in flight."""
    # Deferred: see above.
    import numpy as np

    busy = loop.busy(batch, wanted)
    waiting_s = max(wanted / batch - 1, 0.0) * busy.cycle_s
    first_s = np.maximum(busy.first_s, waiting_s + busy.own_s)
    return SteadyStates(first_s * 1e3, busy.tpot_s * 1e3, busy.tpot_p95_s * 1e3, busy.tok_s, busy.tok_s)


def _open(loop: ServingLoop, rate: float, slots: int) -> SteadyStates:
    """Requests that come at random: an overloaded system fills its slots and its queue grows."""
    # Deferred: see above.
    import numpy as np

    full = loop.busy(slots, slots)
    behind_s = LATE_REQUESTS * (loop.output / full.tok_s - 1 / rate)
    found = np.array([(full.own_s + behind_s) * 1e3, full.tpot_s * 1e3, full.tpot_p95_s * 1e3, full.tok_s, full.tok_s])
    kept = np.flatnonzero(rate * loop.output < full.tok_s)
    if len(kept):
        found[:, kept] = _columns(_within(loop.of(kept), full.of(kept), rate, slots))
    return SteadyStates(*found)


def _within(loop: ServingLoop, full: _BusyPeriod, rate: float, slots: int) -> SteadyStates:
    """Find how many requests of a rate that can be kept are in flight, by Little's law."""
    # Deferred: see above.
    import numpy as np

    offered = rate * loop.output
    low, high = np.ones(len(loop.family), int), np.full(len(loop.family), slots)
    while len(open_ := np.flatnonzero(low < high)):
        middle = (low[open_] + high[open_]) // 2
        enough = loop.of(open_).each(middle).tok_s >= offered
        high[open_], low[open_] = np.where(enough, middle, high[open_]), np.where(enough, low[open_], middle + 1)
    busy, crowded = loop.each(low), loop.each(_batch_sizes(low, slots))
    wait_s = _batch_wait_s(busy, low, rate) if loop.static else _queue_s(loop, busy, low, rate)
    wait_s = wait_s + _slot_wait_s(full, slots, offered / full.tok_s)
    keeps = np.full(len(loop.family), offered)
    return SteadyStates((crowded.own_s + wait_s) * 1e3, busy.tpot_s * 1e3, crowded.tpot_p95_s * 1e3, keeps, full.tok_s)


def _batch_sizes(batches: "Places", slots: int) -> "Places":
    """Requests in flight at once that are exceeded one time in twenty, arrivals random (Poisson, normal tail)."""
    # Deferred: see above.
    import numpy as np

    return np.minimum(np.ceil(batches + 1.645 * np.sqrt(batches)), slots).astype(int)


def _queue_s(loop: ServingLoop, busy: _BusyPeriod, batches: "Places", rate: float) -> "Numbers":
    """95th percentile of the wait for the step under way and the prompts before one's own: M/D/1, the rest of one service at low load."""
    # Deferred: see above.
    import numpy as np

    taken = np.minimum(rate * busy.own_s, 1 - TAIL)
    tail_s = busy.own_s * taken / (2 * (1 - taken)) * np.maximum(np.log(taken / TAIL), 0.0)
    behind_one_s = busy.own_s * np.maximum(1 - TAIL / taken, 0.0) / (1 - taken)
    under_way_s = np.zeros(len(batches))
    for batch in np.unique(batches[batches > 1]):
        places = np.flatnonzero(batches == batch)
        under_way_s[places] = loop.of(places).decode_s(int(batch))
    waits_s: Numbers = np.maximum(tail_s, behind_one_s) + under_way_s * (1 - TAIL)
    return waits_s


def _batch_wait_s(busy: _BusyPeriod, batches: "Places", rate: float) -> "Numbers":
    """95th percentile of the wait for the batch under way, and for the prompts before one's own in the next."""
    # Deferred: see above.
    import numpy as np

    under_way = np.minimum(rate * busy.cycle_s / batches, 1.0)
    waits_s = busy.cycle_s * np.maximum(1 - TAIL / under_way, 0.0)
    longest_s: Numbers = np.maximum(waits_s, (batches - 1) * busy.own_s)
    return longest_s


def _slot_wait_s(full: _BusyPeriod, slots: int, load: "Numbers") -> "Numbers":
    """95th percentile of the wait for a free slot: Sakasegawa's probability, halved for services of nearly equal length."""
    # Deferred: see above.
    import numpy as np

    waits = np.maximum(load ** math.sqrt(2 * (slots + 1)), TAIL)
    waits_s: Numbers = full.cycle_s / (2 * slots * np.maximum(1 - load, TAIL)) * np.log(waits / TAIL)
    return waits_s

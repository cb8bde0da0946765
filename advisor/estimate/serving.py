"""Serving as a small discrete-event simulation: the scheduler's rules, equal steps taken together.

Rules: FIFO admission while a slot is free; `static` admits a batch and prefills its prompts one step each; `continuous`
fills what the decoding sequences leave of the token budget with prompt chunks, in order of arrival.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from statistics import fmean

from advisor.backends.deployment import Deployment
from advisor.estimate.operators import Part
from advisor.estimate.steps import StepPricer
from advisor.profiles.request import Load, Workload

SEED = 20
BURST_SHARE = 3
"""A closed loop starts with everyone at once. One in so many of those first requests counts: as in ten rounds, not in four."""
ROUNDS = 4
"""Requests simulated in a closed loop, as a multiple of those in flight: the first burst and three rounds of steady state."""
LENGTH_SPREAD = 0.1
"""Lengths in a loop vary by this share either way, evenly: equal ones would finish and start in step for ever."""
OPEN_REQUESTS = 200
"""Requests simulated in an open loop."""


@dataclass(frozen=True, slots=True)
class Served:
    """Times of the simulated requests, seconds."""

    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]
    throughput_tok_s: float
    """Output tokens per second of all replicas: of the whole run where it is a concrete one, else of its steady state."""
    peak_cache_tokens: int
    """Most tokens that the cache held at once, of one replica, each sequence rounded up to its blocks."""


@dataclass(slots=True)
class Active:
    """A request on its way. All that decode gain alike, so it is done when the common counter reaches `ends_at`."""

    number: int
    arrival_s: float
    prompt: int
    output: int
    prefilled: int = 0
    joined_at: float = 0.0
    ends_at: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0


@dataclass(slots=True)
class _Decoding:
    """The sequences that decode: a heap by the common counter, and the sum of their contexts."""

    counter: float = 0.0
    context_sum: float = 0.0
    heap: list[tuple[float, int, Active]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.heap)

    @property
    def mean_context(self) -> float:
        return self.context_sum / len(self.heap)

    @property
    def shortest(self) -> float:
        """Tokens until the next one is done."""
        return self.heap[0][0] - self.counter

    def join(self, active: Active) -> None:
        active.joined_at, active.ends_at = self.counter, self.counter + active.output - 1
        self.context_sum += active.prompt + 1
        heappush(self.heap, (active.ends_at, active.number, active))

    def gain(self, tokens: float) -> None:
        self.counter += tokens
        self.context_sum += tokens * len(self.heap)

    def pop_done(self) -> list[Active]:
        done = []
        while self.heap and self.heap[0][0] <= self.counter + 1e-6:
            active = heappop(self.heap)[2]
            self.context_sum -= active.prompt + 1 + self.counter - active.joined_at
            done.append(active)
        return done

    def held(self, block: int) -> int:
        """Blocks in use."""
        return sum(
            -(-int(active.prompt + min(1 + self.counter - active.joined_at, active.output - 1)) // block) for _, _, active in self.heap
        )


class Scheduler:
    """Runs requests through a deployment's steps on paper. Only built and run once."""

    def __init__(
        self,
        pricer: StepPricer,
        *,
        policy: str,
        slots: int,
        token_budget: int,
        request_s: float,
        wait_steps: float = 0.0,
        exact_cache: bool = False,
    ) -> None:
        self._pricer = pricer
        self._static = policy == "static"
        self._slots = max(slots, 1)
        self._budget = token_budget
        self._request_s = request_s
        self._wait_steps = wait_steps
        self._gain = pricer.tokens_per_decode
        self._positions = pricer.deployment.decoding.draft_tokens + 1
        self._now = 0.0
        self._prefilling: deque[Active] = deque()
        self._running = _Decoding()
        self._done: list[Active] = []
        self._block = max(pricer.deployment.kv.block_tokens, 1)
        self._exact_cache = exact_cache
        self._peak_tokens = 0

    def serve(
        self, lengths: Sequence[tuple[int, int]], *, in_flight: int | None, arrivals_s: Sequence[float] | None = None
    ) -> list[Active]:
        """Serve prompts and outputs of these lengths: `in_flight` at a time, or as they arrive, or all at once."""
        self._pending = deque(Active(number, 0.0, *shape) for number, shape in enumerate(lengths))
        self._arrivals = deque(arrivals_s or ())
        self._waiting: deque[Active] = deque()
        self._in_flight = in_flight
        if arrivals_s is None:
            self._submit(in_flight or len(lengths))
        while self._waiting or self._prefilling or self._running or self._arrivals:
            self._take_arrivals()
            self._admit()
            self._advance()
        return self._done

    def served(self, counted: Sequence[Active]) -> Served:
        """The times of `counted` requests of a finished run."""
        tpot = tuple((active.last_s - active.first_s) / (active.output - 1) for active in counted if active.output > 1)
        wait_s = self._wait_steps * self._gain * fmean(tpot) if tpot else 0.0
        ttft = tuple(active.first_s - active.arrival_s + self._request_s + wait_s for active in counted)
        produced = sum(active.output for active in self._done) / self._now if self._now > 0 else 0.0
        return Served(ttft, tpot, produced, self._peak_tokens)

    def steady_tok_s(self, in_flight: int) -> float:
        """Output tokens per second while so many are in flight, by Little's law: a run's last requests finish in company of few."""
        steady = [active for active in self._done if active.number >= in_flight] or self._done
        held_s = sum(active.last_s - active.arrival_s for active in steady)
        return in_flight * sum(active.output for active in steady) / held_s if held_s > 0 else 0.0

    def _submit(self, count: int) -> None:
        for _ in range(min(count, len(self._pending))):
            active = self._pending.popleft()
            active.arrival_s = self._now
            self._waiting.append(active)

    def _take_arrivals(self) -> None:
        idle = not (self._waiting or self._prefilling or self._running)
        if idle and self._arrivals and self._arrivals[0] > self._now:
            self._now = self._arrivals[0]
        while self._arrivals and self._arrivals[0] <= self._now:
            active = self._pending.popleft()
            active.arrival_s = self._arrivals.popleft()
            self._waiting.append(active)

    def _admit(self) -> None:
        if self._static and (self._prefilling or self._running):
            return
        while self._waiting and len(self._prefilling) + len(self._running) < self._slots:
            self._prefilling.append(self._waiting.popleft())

    def _advance(self) -> None:
        if not self._prefilling:
            if self._running:
                self._decode()
        elif self._static:
            self._prefill_whole()
        else:
            self._mixed()

    def _decode(self) -> None:
        """Decode until the next request finishes or arrives."""
        running = self._running
        steps = max(running.shortest / self._gain, 1.0)
        seconds = self._pricer.decode_s(len(running), running.mean_context + steps * self._gain / 2)
        if self._arrivals and self._arrivals[0] < self._now + steps * seconds:
            steps = max((self._arrivals[0] - self._now) / seconds, 1.0)
        self._now = self._now + steps * seconds
        self._gained(steps)

    def _prefill_whole(self) -> None:
        active = self._prefilling.popleft()
        self._now = self._now + self._pricer.prefill_s(active.prompt, active.prompt)
        self._first_token(active)
        self._note_cache()

    def _mixed(self) -> None:
        """One kind of step with prompt chunks, repeated while it stays the same."""
        room = max(self._budget - len(self._running) * self._positions, 1)
        first = self._prefilling[0]
        chunk = min(first.prompt - first.prefilled, room)
        repeats = max((first.prompt - first.prefilled) // chunk, 1)
        chunks = [(first, chunk)]
        if repeats == 1 and chunk < room:
            chunks += self._more_chunks(room - chunk)
        if self._running:
            repeats = max(min(repeats, int(self._running.shortest / self._gain)), 1)
        self._now = self._now + repeats * self._mixed_s(chunks, repeats)
        for active, tokens in chunks:
            active.prefilled += tokens * repeats
        self._gained(repeats)
        for active, _ in chunks:
            if active.prefilled >= active.prompt:
                self._prefilling.remove(active)
                self._first_token(active)
        self._note_cache()

    def _more_chunks(self, room: int) -> list[tuple[Active, int]]:
        """Chunks of the prompts behind the first one that fill the rest of a step."""
        chunks = []
        for place, active in enumerate(self._prefilling):
            if place and room > 0:
                chunks.append((active, min(active.prompt - active.prefilled, room)))
                room -= chunks[-1][1]
            if room <= 0:
                break
        return chunks

    def _mixed_s(self, chunks: list[tuple[Active, int]], repeats: int) -> float:
        parts: dict[Part, int] = {}
        for active, tokens in chunks:
            middle = active.prefilled + tokens * (repeats + 1) // 2
            part = self._pricer.chunk_part(tokens, max(middle, tokens), active.prefilled + tokens * repeats >= active.prompt)
            parts[part] = parts.get(part, 0) + 1
        step = [Part(part.phase, count, part.q_tokens, part.kv_tokens, part.sampled) for part, count in parts.items()]
        drafting = 0.0
        if self._running:
            step.append(self._pricer.decode_part(len(self._running), self._running.mean_context))
            drafting = self._pricer.draft_s(len(self._running), self._running.mean_context)
        return self._pricer.step_s(tuple(step)) + drafting

    def _first_token(self, active: Active) -> None:
        active.first_s = active.last_s = self._now
        self._running.join(active)
        if active.output <= 1:
            self._retire()

    def _gained(self, steps: float) -> None:
        self._running.gain(steps * self._gain)
        self._note_cache()
        self._retire()

    def _retire(self) -> None:
        finished = self._running.pop_done()
        for active in finished:
            active.last_s = self._now
        self._done += finished
        if finished and self._in_flight is not None:
            self._submit(len(finished))

    def _note_cache(self) -> None:
        if self._exact_cache:
            held = self._running.held(self._block) + sum(-(-active.prompt // self._block) for active in self._prefilling)
            self._peak_tokens = max(self._peak_tokens, held * self._block)


def simulate(
    pricer: StepPricer,
    deployment: Deployment,
    workload: Workload,
    *,
    slots: int,
    token_budget: int,
    request_s: float,
    lengths: Sequence[tuple[int, int]] | None = None,
) -> Served:
    """Serve the workload on paper. `lengths` gives the requests of a concrete run; else enough of the usual length.

    Data-parallel replicas share the load evenly.
    """
    replicas = deployment.parallel.data
    scheduler = Scheduler(
        pricer,
        policy=deployment.batching.policy,
        slots=slots,
        token_budget=token_budget,
        request_s=request_s,
        wait_steps=0.0 if workload.load is Load.CLOSED and workload.concurrency == 1 else pricer.machine.overheads.wait_steps,
        exact_cache=lengths is not None,
    )
    if workload.load is Load.OPEN:
        wanted = lengths or _varied(workload, OPEN_REQUESTS)
        served = scheduler.served(scheduler.serve(wanted, in_flight=None, arrivals_s=_poisson(workload, len(wanted), replicas)))
    elif lengths is not None:
        in_flight = _in_flight(workload, slots, replicas) if workload.load is Load.CLOSED else None
        served = scheduler.served(scheduler.serve(lengths, in_flight=in_flight))
    else:
        in_flight = _in_flight(workload, slots, replicas)
        done = scheduler.serve(varied_lengths(workload, in_flight), in_flight=in_flight)
        counted = counted_requests(done, in_flight)
        served = replace(scheduler.served(counted), throughput_tok_s=scheduler.steady_tok_s(in_flight))
    return replace(served, throughput_tok_s=served.throughput_tok_s * replicas)


def varied_lengths(workload: Workload, in_flight: int) -> list[tuple[int, int]]:
    """Lengths of the requests of a simulated loop; a single stream is one request."""
    return _varied(workload, ROUNDS * in_flight if in_flight > 1 else 1)


def counted_requests(done: Sequence[Active], in_flight: int) -> list[Active]:
    """The requests of a simulated loop that stand for a longer one: all but most of the first burst."""
    return [one for one in done if one.number >= in_flight or one.number % BURST_SHARE == 0]


def _in_flight(workload: Workload, slots: int, replicas: int) -> int:
    """Requests on one replica at once; offline, as many as run, since more are always waiting."""
    if workload.concurrency is None:
        return slots
    wanted = max(-(-workload.concurrency // replicas), 1)
    return wanted if workload.load is Load.CLOSED else min(wanted, slots)


def _poisson(workload: Workload, count: int, replicas: int) -> list[float]:
    rng, at, arrivals = random.Random(SEED), 0.0, []
    for _ in range(count):
        at += rng.expovariate((workload.request_rate_per_s or 1.0) / replicas)
        arrivals.append(at)
    return arrivals


def _varied(workload: Workload, count: int) -> list[tuple[int, int]]:
    """Lengths of `count` requests, the usual ones on average."""
    if count == 1:
        return [(workload.prompt_tokens, workload.output_tokens)]
    rng = random.Random(SEED)

    def around(tokens: int) -> int:
        return max(round(tokens * rng.uniform(1 - LENGTH_SPREAD, 1 + LENGTH_SPREAD)), 1)

    return [(around(workload.prompt_tokens), around(workload.output_tokens)) for _ in range(count)]

"""Serving as a small discrete-event simulation: the scheduler's rules, equal steps taken together.

Rules: FIFO admission while a slot is free; `static` admits a batch and prefills its prompts one step each; `continuous`
fills what the decoding sequences leave of the token budget with prompt chunks, in order of arrival.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from advisor.backends.deployment import Deployment
from advisor.estimate.operators import Part
from advisor.estimate.steps import StepPricer
from advisor.profiles.request import Load, Workload

ARRIVAL_SEED = 20
CYCLES = 3
"""Requests simulated in a closed loop, as a multiple of those in flight: the first burst and two rounds of steady state."""
OPEN_REQUESTS = 200
"""Requests simulated in an open loop."""


@dataclass(frozen=True, slots=True)
class Served:
    """Times of the simulated requests, seconds."""

    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]
    output_tokens: int
    wall_s: float

    @property
    def throughput_tok_s(self) -> float:
        """Output tokens of all requests over wall time."""
        return self.output_tokens / self.wall_s if self.wall_s > 0 else 0.0


@dataclass(slots=True)
class _Active:
    """A request in a slot."""

    arrival_s: float
    prompt: int
    output: int
    prefilled: int = 0
    generated: float = 0.0
    first_s: float = 0.0

    @property
    def context(self) -> float:
        return self.prefilled + self.generated


class Scheduler:
    """Runs requests through a deployment's steps on paper. Only built and run once."""

    def __init__(self, pricer: StepPricer, *, policy: str, slots: int, token_budget: int, request_s: float) -> None:
        self._pricer = pricer
        self._static = policy == "static"
        self._slots = max(slots, 1)
        self._budget = token_budget
        self._request_s = request_s
        self._gain = pricer.tokens_per_decode
        self._positions = pricer.deployment.decoding.draft_tokens + 1
        self._now = 0.0
        self._prefilling: deque[_Active] = deque()
        self._running: list[_Active] = []
        self._done: list[tuple[_Active, float]] = []

    def serve(self, lengths: Sequence[tuple[int, int]], *, in_flight: int | None, arrivals_s: Sequence[float] | None = None) -> Served:
        """Serve prompts and outputs of these lengths: `in_flight` at a time, or as they arrive, or all at once."""
        self._pending = deque(lengths)
        self._arrivals = deque(arrivals_s or ())
        self._waiting: deque[_Active] = deque()
        self._in_flight = in_flight
        if arrivals_s is None:
            self._submit(in_flight or len(lengths))
        while self._waiting or self._prefilling or self._running or self._arrivals:
            self._take_arrivals()
            self._admit()
            self._advance()
        ttft = tuple(active.first_s - active.arrival_s + self._request_s for active, _ in self._done)
        tpot = tuple((end - active.first_s) / (active.output - 1) for active, end in self._done if active.output > 1)
        return Served(ttft, tpot, sum(active.output for active, _ in self._done), self._now)

    def _submit(self, count: int) -> None:
        for _ in range(min(count, len(self._pending))):
            prompt, output = self._pending.popleft()
            self._waiting.append(_Active(self._now, prompt, output))

    def _take_arrivals(self) -> None:
        idle = not (self._waiting or self._prefilling or self._running)
        if idle and self._arrivals and self._arrivals[0] > self._now:
            self._now = self._arrivals[0]
        while self._arrivals and self._arrivals[0] <= self._now:
            prompt, output = self._pending.popleft()
            self._waiting.append(_Active(self._arrivals.popleft(), prompt, output))

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
        batch = len(self._running)
        steps = max(min(active.output - active.generated for active in self._running) / self._gain, 1.0)
        context = sum(active.context for active in self._running) / batch
        seconds = self._pricer.decode_s(batch, context + steps * self._gain / 2)
        if self._arrivals and self._arrivals[0] < self._now + steps * seconds:
            steps = max((self._arrivals[0] - self._now) / seconds, 1.0)
        self._now += steps * seconds
        self._gained(steps)

    def _prefill_whole(self) -> None:
        active = self._prefilling.popleft()
        self._now += self._pricer.prefill_s(active.prompt, active.prompt)
        self._first_token(active)

    def _mixed(self) -> None:
        """One kind of step with prompt chunks, repeated while it stays the same."""
        room = max(self._budget - len(self._running) * self._positions, 1)
        first = self._prefilling[0]
        chunk = min(first.prompt - first.prefilled, room)
        repeats = max((first.prompt - first.prefilled) // chunk, 1)
        chunks = [(first, chunk)]
        if repeats == 1 and chunk < room:
            room -= chunk
            for active in list(self._prefilling)[1:]:
                if room <= 0:
                    break
                chunks.append((active, min(active.prompt - active.prefilled, room)))
                room -= chunks[-1][1]
        if self._running:
            left = min(active.output - active.generated for active in self._running)
            repeats = max(min(repeats, int(left / self._gain)), 1)
        self._now += repeats * self._mixed_s(chunks, repeats)
        self._gained(repeats)
        for active, tokens in chunks:
            active.prefilled += tokens * repeats
            if active.prefilled >= active.prompt:
                self._prefilling.remove(active)
                self._first_token(active)

    def _mixed_s(self, chunks: list[tuple[_Active, int]], repeats: int) -> float:
        parts: dict[Part, int] = {}
        for active, tokens in chunks:
            middle = active.prefilled + tokens * (repeats + 1) // 2
            part = Part("prefill", 1, tokens, max(middle, tokens), active.prefilled + tokens * repeats >= active.prompt)
            parts[part] = parts.get(part, 0) + 1
        step = [Part(part.phase, count, part.q_tokens, part.kv_tokens, part.sampled) for part, count in parts.items()]
        drafting = 0.0
        if self._running:
            context = sum(active.context for active in self._running) / len(self._running)
            step.append(self._pricer.decode_part(len(self._running), context))
            drafting = self._pricer.draft_s(len(self._running), context)
        return self._pricer.step_s(tuple(step)) + drafting

    def _first_token(self, active: _Active) -> None:
        active.prefilled, active.generated, active.first_s = active.prompt, 1.0, self._now
        self._running.append(active)
        if active.output <= 1:
            self._retire()

    def _gained(self, steps: float) -> None:
        for active in self._running:
            active.generated += steps * self._gain
        self._retire()

    def _retire(self) -> None:
        finished = [active for active in self._running if active.generated >= active.output - 1e-9]
        if finished:
            self._running = [active for active in self._running if active.generated < active.output - 1e-9]
            self._done += [(active, self._now) for active in finished]
            if self._in_flight is not None:
                self._submit(len(finished))


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
    scheduler = Scheduler(pricer, policy=deployment.batching.policy, slots=slots, token_budget=token_budget, request_s=request_s)
    shape = (workload.prompt_tokens, workload.output_tokens)
    if workload.load is Load.CLOSED:
        in_flight = max(-(-(workload.concurrency or 1) // replicas), 1)
        wanted = lengths or [shape] * (CYCLES * in_flight if in_flight > 1 else 2)
        served = scheduler.serve(wanted, in_flight=in_flight)
    elif workload.load is Load.OFFLINE:
        wanted = lengths or [shape] * max(CYCLES * min(slots, workload.concurrency or slots), 1)
        served = scheduler.serve(wanted, in_flight=None)
    else:
        rng, at, arrivals = random.Random(ARRIVAL_SEED), 0.0, []
        wanted = lengths or [shape] * OPEN_REQUESTS
        for _ in wanted:
            at += rng.expovariate((workload.request_rate_per_s or 1.0) / replicas)
            arrivals.append(at)
        served = scheduler.serve(wanted, in_flight=None, arrivals_s=arrivals)
    return Served(served.ttft_s, served.tpot_s, served.output_tokens * replicas, served.wall_s)

"""A serving engine's scheduler on paper: token budget, chunked prefill, blocks of a finite cache, preemption.

Continuous batching follows vLLM's V1 scheduler: sequences that run go first, the youngest gives its blocks back when the
cache runs dry and starts over at the front of the queue, then waiting prompts are admitted in order while slots, budget
and blocks last (`vllm/v1/core/sched/scheduler.py`). Equal steps are taken together, up to the next event.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from advisor.backends.deployment import BatchPolicy, CacheRetention
from advisor.estimate.cancellation import checkpoint
from advisor.estimate.memory.ledger import full_blocks, reused_tokens
from advisor.estimate.operators.types import StepPart
from advisor.estimate.serving.requests import UNLIMITED_POOL, DecodeSet, SimPool, SimRequest
from advisor.estimate.serving.times import ServingTimes, Timing
from advisor.estimate.steps.pricer import StepPricer


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerRules:
    """How an engine schedules a deployment."""

    policy: BatchPolicy
    """`static` or `continuous`; see `Batching`."""
    max_sequences: int
    """Most requests that run at once on a replica."""
    token_budget: int
    request_s: float = 0.0
    wait_steps: float = 0.0
    """Decoding steps that a request waits beyond what the engine always makes it wait."""
    chunked: bool = True
    """Whether prompts are cut to fit in the budget."""
    shared_tokens: int = 0
    """Tokens in full blocks with which every prompt begins: those that come after the first find them in the cache."""
    block_tokens: int = 1
    pool: SimPool = UNLIMITED_POOL
    retention: CacheRetention | None = None
    """What stays of a sequence in a cache that forgets."""


class Scheduler:
    """Runs requests through a deployment's steps on paper. Only built and run once."""

    def __init__(self, pricer: StepPricer, rules: SchedulerRules, *, exact_cache: bool = False) -> None:
        self._pricer = pricer
        self._static = rules.policy == BatchPolicy.STATIC
        self._slots = max(rules.max_sequences, 1)
        self._budget = rules.token_budget
        self._request_s = rules.request_s
        self._wait_steps = rules.wait_steps
        self._chunked = rules.chunked
        self._shared = rules.shared_tokens
        self._block = rules.block_tokens
        self._known = 0
        """Tokens of the shared prefix that are in the cache."""
        self._spared = 0
        """Tokens that were not prefilled, as they were in the cache."""
        self._gain = pricer.tokens_per_decode
        self._positions = pricer.deployment.decoding.draft_tokens + 1
        self._pool = pool = rules.pool
        self._bounded = pool.blocks < float("inf")
        self._now = 0.0
        self._waiting: deque[SimRequest] = deque()
        self._order: list[SimRequest] = []
        self._prefilling: deque[SimRequest] = deque()
        self._running = DecodeSet(pool.block_tokens if self._bounded else max(pricer.deployment.kv.block_tokens, 1))
        self._done: list[SimRequest] = []
        self._exact_cache = exact_cache
        self._kept = rules.retention
        self.peak_cache_tokens = 0
        """Most tokens that the cache held at once, each sequence rounded up to its blocks; kept where `exact_cache` asks for it."""
        self.peak_blocks = 0.0
        """Most blocks that a step needed; kept where the pool is finite."""
        self.preemptions = 0
        self.steps = 0

    def serve(
        self, lengths: Sequence[tuple[int, int]], *, in_flight: int | None, arrivals_s: Sequence[float] | None = None
    ) -> list[SimRequest]:
        """Serve prompts and outputs of these lengths: `in_flight` at a time, or as they arrive, or all at once."""
        self._pending = deque(SimRequest(number, 0.0, *shape) for number, shape in enumerate(lengths))
        self._arrivals = deque(arrivals_s or ())
        self._in_flight = in_flight
        if arrivals_s is None:
            self._submit(in_flight or len(lengths))
        while self._waiting or self._order or self._arrivals:
            checkpoint()
            self._take_arrivals()
            if self._static:
                self._static_step()
            else:
                self._continuous_step()
        return self._done

    def served(self, counted: Sequence[SimRequest]) -> ServingTimes:
        """The times of `counted` requests of a finished run as their clients see them."""
        per_token = [one.tpot_s for one in counted]
        known = [seconds for seconds in per_token if seconds is not None]
        before_s = self._request_s + (self._wait_steps * self._gain * fmean(known) if known else 0.0)
        timings = tuple(
            Timing(one.first_s - one.arrival_s + before_s, seconds, one.last_s - one.arrival_s + before_s)
            for one, seconds in zip(counted, per_token, strict=True)
        )
        produced = sum(active.output for active in self._done)
        return ServingTimes(
            timings,
            produced / self._now if self._now > 0 else 0.0,
            len(self._done) / self._now if self._now > 0 else 0.0,
            peak_cache_tokens=self.peak_cache_tokens,
            preemptions=self.preemptions,
            prefix_hits=min(self._spared / sum(one.prompt for one in self._done), 1.0) if self._shared else None,
        )

    def steady_state_tok_s(self, in_flight: int) -> float:
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
        idle = not (self._waiting or self._order)
        if idle and self._arrivals and self._arrivals[0] > self._now:
            self._now = self._arrivals[0]
        while self._arrivals and self._arrivals[0] <= self._now:
            active = self._pending.popleft()
            active.arrival_s = self._arrivals.popleft()
            self._waiting.append(active)

    def _static_step(self) -> None:
        """Admit a batch into an empty machine, prefill its prompts one step each, decode until all are done."""
        if not self._order:
            while self._waiting and len(self._order) < self._slots:
                self._start(self._waiting.popleft())
        if not self._prefilling:
            self._decode()
            return
        if self._kept is not None:
            self._note_cache()
        active = self._prefilling.popleft()
        self._reuse(active)
        self._advance(self._pricer.prefill_s(active.prompt - active.prefilled, active.prompt), 1)
        self._register_prefix(active.prompt)
        self._first_token(active)
        self._note_cache()

    def _continuous_step(self) -> None:
        for active in self._prefilling:
            self._reuse(active)
        preempted = self._make_room()
        chunks = self._running_prefills()
        if not preempted and self._waiting:
            chunks += self._new_prefills(chunks)
        if chunks:
            self._mixed(chunks)
        else:
            self._decode()

    def _make_room(self) -> bool:
        """Preempt the youngest until the next step's blocks are there; the last one standing may have them all."""
        preempted = False
        while self._bounded and len(self._order) > 1 and self._free(self._running_prefills()) < 0:
            self._preempt(self._order[-1])
            preempted = True
        return preempted

    def _needed(self, steps: int = 1) -> float:
        """Blocks that are held in the last of so many decoding steps, prompts with what is already prefilled."""
        if self._pool.reserves:
            return sum(map(self._reserved, self._order))
        decoding = self._running.blocks((steps - 1) * self._gain + self._positions - 1) if len(self._running) else 0
        prefilling = sum(self._pool.blocks_of(active.prefilled) for active in self._prefilling)
        return decoding + prefilling + self._pool.fixed_blocks * len(self._order)

    def _reserved(self, active: SimRequest) -> float:
        return self._pool.fixed_blocks + self._pool.blocks_of(active.prompt + active.output + self._positions - 2)

    def _preempt(self, active: SimRequest) -> None:
        """Forget the keys and values of a sequence; its prompt and what it has written are prefilled again, before all that wait."""
        self._order.remove(active)
        if active in self._prefilling:
            self._prefilling.remove(active)
        else:
            active.produced = self._running.preempt(active)
        active.prefilled = active.reused = 0
        active.preemptions += 1
        self.preemptions += 1
        self._waiting.appendleft(active)

    def _start(self, active: SimRequest) -> None:
        self._order.append(active)
        self._prefilling.append(active)
        self._reuse(active)

    def _reuse(self, active: SimRequest) -> None:
        """Skip what others have computed of the prompt, from the end of a block on; its last token it must compute itself."""
        found = reused_tokens(self._known, active.prompt, self._block) if self._known else 0
        if found > active.prefilled and active.prefilled % self._block == 0:
            active.reused += found - active.prefilled
            self._spared += found - active.prefilled
            active.prefilled = found

    def _register_prefix(self, tokens: int) -> None:
        """A prompt is computed up to here."""
        if self._known < self._shared:
            self._known = max(self._known, full_blocks(min(tokens, self._shared), self._block))

    def _room(self) -> int:
        """Prompt tokens that the next step has budget for."""
        return max(self._budget - len(self._running) * self._positions, 1)

    def _running_prefills(self) -> list[tuple[SimRequest, int]]:
        """Chunks of the next step for the prompts that are prefilled already in part."""
        chunks, room = [], self._room()
        for active in self._prefilling:
            chunks.append((active, min(active.prefill_tokens - active.prefilled, room)))
            room -= chunks[-1][1]
            if room <= 0:
                break
        return chunks

    def _new_prefills(self, begun: list[tuple[SimRequest, int]]) -> list[tuple[SimRequest, int]]:
        """Start the requests that wait, in order, while slots, budget and blocks for their whole prompts last; their chunks.

        Prompts that are never cut share a step while the budget lasts; one that is longer goes alone.
        """
        room = self._room() - sum(tokens for _, tokens in begun)
        free = self._free(begun) if self._bounded and room > 0 and len(self._order) < self._slots else float("inf")
        chunks: list[tuple[SimRequest, int]] = []
        while self._waiting and room > 0 and len(self._order) < self._slots:
            active = self._waiting[0]
            if not self._chunked and active.prefill_tokens > room and chunks:
                break
            free -= self._reserved(active) if self._pool.reserves else self._pool.fixed_blocks + self._pool.blocks_of(active.prefill_tokens)
            if free < 0 and self._order:
                break
            self._start(self._waiting.popleft())
            left = active.prefill_tokens - active.prefilled
            chunks.append((active, min(left, room) if self._chunked else left))
            room -= chunks[-1][1]
        return chunks

    def _free(self, chunks: list[tuple[SimRequest, int]]) -> float:
        """Blocks that the next step leaves; less than none where it cannot be."""
        blocks_of = self._pool.blocks_of
        grown = 0 if self._pool.reserves else sum(blocks_of(one.prefilled + tokens) - blocks_of(one.prefilled) for one, tokens in chunks)
        return self._pool.blocks - self._needed() - grown

    def _decode(self) -> None:
        """Decode until the next request finishes, blocks run out, or one arrives that may start."""
        running = self._running
        steps = self._fitting(max(ceil(running.next_completion / self._gain - 1e-9), 1))
        seconds = self._pricer.decode_s(len(running), running.mean_context + steps * self._gain / 2)
        if self._arrivals and not self._waiting and (self._static or len(self._order) < self._slots):
            steps = min(steps, max(ceil((self._arrivals[0] - self._now) / seconds), 1))
        self._advance(steps * seconds, steps)
        self._note_blocks(steps)
        self._advance_decodes(steps)

    def _fitting(self, steps: int) -> int:
        """The most decoding steps, up to `steps`, whose blocks are there; at least 1."""
        if not self._bounded or len(self._order) < 2 or self._needed(steps) <= self._pool.blocks:
            return steps
        low, high = 1, steps
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._needed(middle) <= self._pool.blocks else (low, middle)
        return low

    def _mixed(self, chunks: list[tuple[SimRequest, int]]) -> None:
        """One kind of step with prompt chunks, repeated while it stays the same."""
        first, chunk = chunks[0]
        repeats = max((first.prefill_tokens - first.prefilled) // chunk, 1) if len(chunks) == 1 else 1
        if len(self._running):
            repeats = max(min(repeats, int(self._running.next_completion / self._gain)), 1)
        if self._bounded and repeats > 1:
            grown = self._pool.blocks_of(first.prefilled + chunk * repeats) - self._pool.blocks_of(first.prefilled)
            repeats = repeats if self._needed(repeats) + grown <= self._pool.blocks else 1
        self._advance(repeats * self._mixed_s(chunks, repeats), repeats)
        for active, tokens in chunks:
            active.prefilled += tokens * repeats
            self._register_prefix(active.prefilled)
        self._note_blocks(repeats)
        self._advance_decodes(repeats)
        for active, _ in chunks:
            if active.prefilled >= active.prefill_tokens:
                self._prefilling.remove(active)
                self._first_token(active)
        self._note_cache()

    def _mixed_s(self, chunks: list[tuple[SimRequest, int]], repeats: int) -> float:
        parts: dict[StepPart, int] = {}
        for active, tokens in chunks:
            middle = active.prefilled + tokens * (repeats + 1) // 2
            part = self._pricer.chunk_part(tokens, max(middle, tokens), active.prefilled + tokens * repeats >= active.prefill_tokens)
            parts[part] = parts.get(part, 0) + 1
        step = [StepPart(part.phase, count, part.q_tokens, part.kv_tokens, part.sampled) for part, count in parts.items()]
        drafting = 0.0
        if len(self._running):
            step.append(self._pricer.decode_part(len(self._running), self._running.mean_context))
            drafting = self._pricer.draft_s(len(self._running), self._running.mean_context)
        return self._pricer.step_s(tuple(step)) + drafting

    def _advance(self, seconds: float, steps: int) -> None:
        self._now = self._now + seconds
        self.steps += steps

    def _first_token(self, active: SimRequest) -> None:
        """The token that a finished prefill brings: the first one, or the next after a preemption."""
        if active.produced == 0:
            active.first_s = self._now
        active.last_s = self._now
        self._running.add(active)
        if active.produced >= active.output:
            self._finish()

    def _advance_decodes(self, steps: int) -> None:
        self._running.advance(steps * self._gain)
        self._note_cache()
        self._finish()

    def _finish(self) -> None:
        finished = self._running.pop_done()
        for active in finished:
            active.last_s = self._now
            self._order.remove(active)
        self._done += finished
        if finished and self._in_flight is not None:
            self._submit(len(finished))

    def _note_blocks(self, steps: int) -> None:
        if self._bounded:
            self.peak_blocks = max(self.peak_blocks, self._needed(steps))

    def _note_cache(self) -> None:
        if self._exact_cache:
            block = self._running.block
            # A last step may be worth more tokens than were still to be written.
            held = (self._running.blocks(min(self._running.next_completion, 0.0) - 1) if len(self._running) else 0) + sum(
                -(-active.prefill_tokens // block) for active in self._prefilling
            )
            if self._kept is not None:  # one prompt at a time takes more than what stays of it, those behind it nothing yet
                whole = self._static or not self._chunked
                passing = (
                    self._kept.blocks(one.prefill_tokens, block, one.prefill_tokens if whole else self._budget) for one in self._prefilling
                )
                held = self._running.retained_blocks(self._kept) + max(passing, default=0)
            self.peak_cache_tokens = max(self.peak_cache_tokens, held * block - self._held_twice())

    def _held_twice(self) -> int:
        """Tokens that sequences have in blocks of others, but for once where whoever computed them is gone."""
        reused = [active.reused for active in self._order]
        return sum(reused) - (max(reused) if reused and all(reused) else 0)

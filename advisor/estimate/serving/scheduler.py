"""Simulation of a serving engine's scheduler: token budget, chunked prefill, blocks of a finite cache, preemption.

Continuous batching follows vLLM's V1 scheduler (`vllm/v1/core/sched/scheduler.py`): running sequences are scheduled first; when the
cache runs out of blocks, the youngest is preempted and recomputed from the front of the queue; then waiting prompts are admitted in
order while sequences, token budget and blocks last. Runs of equal steps are advanced at once, up to the next event.
"""

from collections import deque
from collections.abc import Sequence
from math import ceil
from statistics import fmean

from advisor.backends.deployment import BatchPolicy
from advisor.estimate.cancellation import checkpoint
from advisor.estimate.serving.mixed_step import mixed_step_s
from advisor.estimate.serving.requests import DecodeSet, SimRequest
from advisor.estimate.serving.scheduler_rules import SchedulerRules
from advisor.estimate.serving.sim_cache import SharedPrefix, cached_tokens, shared_tokens
from advisor.estimate.serving.times import ServingTimes, Timing
from advisor.estimate.steps.pricer import StepPricer


class Scheduler:
    """Simulates the steps of a deployment that serve a list of requests. Each instance serves once."""

    def __init__(self, pricer: StepPricer, rules: SchedulerRules, *, exact_cache: bool = False) -> None:
        self._pricer = pricer
        self._static = rules.policy == BatchPolicy.STATIC
        self._slots = max(rules.max_sequences, 1)
        self._budget = rules.token_budget
        self._request_s = rules.request_s
        self._wait_steps = rules.wait_steps
        self._chunked = rules.chunked
        self._prefix = SharedPrefix(rules.shared_tokens, rules.block_tokens)
        self._tokens_per_step = pricer.tokens_per_decode
        self._positions = pricer.deployment.decoding.draft_tokens + 1
        self._pool = pool = rules.pool
        self._bounded = pool.blocks < float("inf")
        self._now = 0.0
        self._waiting: deque[SimRequest] = deque()
        self._started: list[SimRequest] = []
        """Requests that prefill or decode, in the order in which they started."""
        self._prefilling: deque[SimRequest] = deque()
        self._running = DecodeSet(pool.block_tokens if self._bounded else max(pricer.deployment.kv.block_tokens, 1))
        self._done: list[SimRequest] = []
        self._exact_cache = exact_cache
        self._retention = rules.retention
        self.peak_cache_tokens = 0
        """Most tokens in the cache at once, each sequence rounded up to its blocks; recorded with `exact_cache`."""
        self.peak_blocks = 0.0
        """Most blocks of a step; recorded where the pool is finite."""
        self.preemptions = 0
        self.steps = 0

    def serve(
        self, lengths: Sequence[tuple[int, int]], *, in_flight: int | None, arrivals_s: Sequence[float] | None = None
    ) -> list[SimRequest]:
        """Serve requests of these lengths in tokens, prompt and output: `in_flight` at a time, as they arrive, or all at once."""
        self._pending = deque(SimRequest(number, 0.0, *shape) for number, shape in enumerate(lengths))
        self._arrivals = deque(arrivals_s or ())
        self._in_flight = in_flight
        if arrivals_s is None:
            self._submit(in_flight or len(lengths))
        while self._waiting or self._started or self._arrivals:
            checkpoint()
            self._take_arrivals()
            if self._static:
                self._static_step()
            else:
                self._continuous_step()
        return self._done

    def times_of(self, counted: Sequence[SimRequest]) -> ServingTimes:
        """Times of `counted` requests as their clients see them, after `serve`."""
        tpots = [request.tpot_s for request in counted]
        defined = [seconds for seconds in tpots if seconds is not None]
        before_s = self._request_s + (self._wait_steps * self._tokens_per_step * fmean(defined) if defined else 0.0)
        timings = tuple(
            Timing(request.first_s - request.arrival_s + before_s, seconds, request.last_s - request.arrival_s + before_s)
            for request, seconds in zip(counted, tpots, strict=True)
        )
        produced = sum(request.output for request in self._done)
        return ServingTimes(
            timings,
            produced / self._now if self._now > 0 else 0.0,
            len(self._done) / self._now if self._now > 0 else 0.0,
            peak_cache_tokens=self.peak_cache_tokens,
            preemptions=self.preemptions,
            prefix_hits=self._prefix.hits(self._done),
        )

    def _submit(self, count: int) -> None:
        for _ in range(min(count, len(self._pending))):
            request = self._pending.popleft()
            request.arrival_s = self._now
            self._waiting.append(request)

    def _take_arrivals(self) -> None:
        idle = not (self._waiting or self._started)
        if idle and self._arrivals and self._arrivals[0] > self._now:
            self._now = self._arrivals[0]
        while self._arrivals and self._arrivals[0] <= self._now:
            request = self._pending.popleft()
            request.arrival_s = self._arrivals.popleft()
            self._waiting.append(request)

    def _static_step(self) -> None:
        """Start a batch once the last one is done, prefill its prompts in a step each, then decode."""
        if not self._started:
            while self._waiting and len(self._started) < self._slots:
                self._start(self._waiting.popleft())
        if not self._prefilling:
            self._decode_steps()
            return
        if self._retention is not None:
            self._record_cache()
        request = self._prefilling.popleft()
        self._prefix.reuse(request)
        self._advance(self._pricer.prefill_s(request.prompt - request.prefilled, request.prompt), 1)
        self._prefix.register(request.prompt)
        self._first_token(request)
        self._record_cache()

    def _continuous_step(self) -> None:
        """Schedule the next step; where only decoding is left, all steps up to the next event."""
        for request in self._prefilling:
            self._prefix.reuse(request)
        preempted = self._preempt_until_fits()
        chunks = self._running_prefills()
        if not preempted and self._waiting:
            chunks += self._new_prefills(chunks)
        if chunks:
            self._mixed_steps(chunks)
        else:
            self._decode_steps()

    def _preempt_until_fits(self) -> bool:
        """Preempt the youngest sequences until the next step's blocks are free; a single sequence may use them all. Whether any was."""
        preempted = False
        while self._bounded and len(self._started) > 1 and self._free_blocks(self._running_prefills()) < 0:
            self._preempt(self._started[-1])
            preempted = True
        return preempted

    def _blocks_needed(self, steps: int = 1) -> float:
        """Blocks in use after `steps` decoding steps; prompts count with what is prefilled already."""
        if self._pool.reserves:
            return sum(map(self._reserved_blocks, self._started))
        decoding = self._running.blocks((steps - 1) * self._tokens_per_step + self._positions - 1) if len(self._running) else 0
        prefilling = sum(self._pool.blocks_of(request.prefilled) for request in self._prefilling)
        return decoding + prefilling + self._pool.fixed_blocks * len(self._started)

    def _blocks_to_start(self, request: SimRequest) -> float:
        """Blocks that must be free for a request to start: up to its last token where they are reserved, else of its prompt."""
        if self._pool.reserves:
            return self._reserved_blocks(request)
        return self._pool.fixed_blocks + self._pool.blocks_of(request.prefill_tokens)

    def _reserved_blocks(self, request: SimRequest) -> float:
        return self._pool.fixed_blocks + self._pool.blocks_of(request.prompt + request.output + self._positions - 2)

    def _preempt(self, request: SimRequest) -> None:
        """Free the blocks of a sequence and put it first in the queue; its prompt and output so far will be prefilled again."""
        self._started.remove(request)
        if request in self._prefilling:
            self._prefilling.remove(request)
        else:
            request.produced = self._running.preempt(request)
        request.prefilled = request.reused = 0
        request.preemptions += 1
        self.preemptions += 1
        self._waiting.appendleft(request)

    def _start(self, request: SimRequest) -> None:
        self._started.append(request)
        self._prefilling.append(request)
        self._prefix.reuse(request)

    def _prefill_budget(self) -> int:
        """Prompt tokens that fit in the next step besides decoding."""
        return max(self._budget - len(self._running) * self._positions, 1)

    def _running_prefills(self) -> list[tuple[SimRequest, int]]:
        """Chunks of the next step for prompts that have started."""
        chunks, budget = [], self._prefill_budget()
        for request in self._prefilling:
            chunks.append((request, min(request.prefill_tokens - request.prefilled, budget)))
            budget -= chunks[-1][1]
            if budget <= 0:
                break
        return chunks

    def _new_prefills(self, running: list[tuple[SimRequest, int]]) -> list[tuple[SimRequest, int]]:
        """Start waiting requests in order while sequences, budget and blocks for whole prompts last; returns their chunks.

        Without chunking, prompts share a step while the budget lasts, and a prompt above the budget has a step of its own.
        """
        budget = self._prefill_budget() - sum(tokens for _, tokens in running)
        free = self._free_blocks(running) if self._bounded and budget > 0 and len(self._started) < self._slots else float("inf")
        chunks: list[tuple[SimRequest, int]] = []
        while self._waiting and budget > 0 and len(self._started) < self._slots:
            request = self._waiting[0]
            if not self._chunked and request.prefill_tokens > budget and chunks:
                break
            free -= self._blocks_to_start(request)
            if free < 0 and self._started:
                break
            self._start(self._waiting.popleft())
            left = request.prefill_tokens - request.prefilled
            chunks.append((request, min(left, budget) if self._chunked else left))
            budget -= chunks[-1][1]
        return chunks

    def _free_blocks(self, chunks: list[tuple[SimRequest, int]]) -> float:
        """Free blocks after the next step with these chunks; negative where it does not fit."""
        blocks_of = self._pool.blocks_of
        grown = 0 if self._pool.reserves else sum(blocks_of(r.prefilled + tokens) - blocks_of(r.prefilled) for r, tokens in chunks)
        return self._pool.blocks - self._blocks_needed() - grown

    def _decode_steps(self) -> None:
        """Decode until a request finishes, blocks run out, or a request arrives that can start."""
        running = self._running
        steps = self._steps_that_fit(max(ceil(running.next_completion / self._tokens_per_step - 1e-9), 1))
        seconds = self._pricer.decode_s(len(running), running.mean_context + steps * self._tokens_per_step / 2)
        if self._arrivals and not self._waiting and (self._static or len(self._started) < self._slots):
            steps = min(steps, max(ceil((self._arrivals[0] - self._now) / seconds), 1))
        self._advance(steps * seconds, steps)
        self._record_blocks(steps)
        self._advance_decodes(steps)

    def _steps_that_fit(self, steps: int) -> int:
        """Most decoding steps, up to `steps`, for which blocks are free; at least 1."""
        if not self._bounded or len(self._started) < 2 or self._blocks_needed(steps) <= self._pool.blocks:
            return steps
        low, high = 1, steps
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._blocks_needed(middle) <= self._pool.blocks else (low, middle)
        return low

    def _mixed_steps(self, chunks: list[tuple[SimRequest, int]]) -> None:
        """A step with prompt chunks, repeated while a single prompt fills it and no sequence finishes."""
        first, chunk = chunks[0]
        repeats = max((first.prefill_tokens - first.prefilled) // chunk, 1) if len(chunks) == 1 else 1
        if len(self._running):
            repeats = max(min(repeats, int(self._running.next_completion / self._tokens_per_step)), 1)
        if self._bounded and repeats > 1:
            grown = self._pool.blocks_of(first.prefilled + chunk * repeats) - self._pool.blocks_of(first.prefilled)
            repeats = repeats if self._blocks_needed(repeats) + grown <= self._pool.blocks else 1
        self._advance(repeats * mixed_step_s(self._pricer, self._running, chunks, repeats), repeats)
        for request, tokens in chunks:
            request.prefilled += tokens * repeats
            self._prefix.register(request.prefilled)
        self._record_blocks(repeats)
        self._advance_decodes(repeats)
        for request, _ in chunks:
            if request.prefilled >= request.prefill_tokens:
                self._prefilling.remove(request)
                self._first_token(request)
        self._record_cache()

    def _advance(self, seconds: float, steps: int) -> None:
        self._now = self._now + seconds
        self.steps += steps

    def _first_token(self, request: SimRequest) -> None:
        """Count the output token of a finished prefill: the first, or after a preemption the next."""
        if request.produced == 0:
            request.first_s = self._now
        request.last_s = self._now
        self._running.add(request)
        if request.produced >= request.output:
            self._finish()

    def _advance_decodes(self, steps: int) -> None:
        self._running.advance(steps * self._tokens_per_step)
        self._record_cache()
        self._finish()

    def _finish(self) -> None:
        finished = self._running.pop_done()
        for request in finished:
            request.last_s = self._now
            self._started.remove(request)
        self._done += finished
        if finished and self._in_flight is not None:
            self._submit(len(finished))

    def _record_blocks(self, steps: int) -> None:
        if self._bounded:
            self.peak_blocks = max(self.peak_blocks, self._blocks_needed(steps))

    def _record_cache(self) -> None:
        if self._exact_cache:
            chunk = None if self._static or not self._chunked else self._budget
            tokens = cached_tokens(self._running, self._prefilling, self._retention, chunk) - shared_tokens(self._started)
            self.peak_cache_tokens = max(self.peak_cache_tokens, tokens)

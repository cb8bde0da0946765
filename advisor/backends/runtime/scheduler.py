"""Schedules steps: which sequences run next, and how many tokens of each. Uses blocks and token budgets, no tensors."""

from collections import deque
from dataclasses import dataclass, field

from advisor.backends.runtime.cache.pool import Pool, SequenceBlocks
from advisor.profiles.errors import AdvisorError, ExitCode

UNKNOWN = -1
"""Placeholder for a token of a step that is still running: its position is taken, its value is read with the results."""


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """A submitted request. `tokens` are the prompt and the output so far, of which the last may be `UNKNOWN`."""

    index: int
    tokens: list[int]
    prompt_tokens: int
    output_tokens: int
    submitted_s: float
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    cache: SequenceBlocks | None = None
    done: bool = False

    @property
    def cached(self) -> int:
        """Tokens whose keys and values are in the pool."""
        return self.cache.tokens if self.cache is not None else 0

    @property
    def uncached_tokens(self) -> int:
        """Tokens without keys and values in the pool: one in decoding, more in prefill."""
        return len(self.tokens) - self.cached

    @property
    def decodes(self) -> bool:
        """Whether only the newest output token is not cached yet."""
        return self.uncached_tokens == 1 and self.cached > 0

    @property
    def remaining(self) -> int:
        """Output tokens still to come."""
        return self.prompt_tokens + self.output_tokens - len(self.tokens)


@dataclass(frozen=True, slots=True)
class ScheduledChunk:
    """A sequence's part of a step: its next `count` uncached tokens, and blocks for `drafts` draft tokens after them."""

    sequence: Sequence
    count: int
    drafts: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """How sequences are admitted and packed into steps; see `advisor.backends.deployment.Batching`."""

    continuous: bool
    max_sequences: int
    token_budget: int
    draft_tokens: int = 0
    chunked: bool = True


@dataclass(slots=True)
class Scheduler:
    """First come, first served. When the pool has no free block, the youngest sequence is preempted and computed again later."""

    policy: Policy
    pool: Pool
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)
    preemptions: int = 0
    reused_tokens: int = 0
    """Prompt tokens that were found in the prefix cache."""

    def submit(self, sequence: Sequence) -> None:
        """Append a request to the waiting queue. Raises `AdvisorError`: `request-too-long`, `kv-pool-too-small`."""
        longest = sequence.prompt_tokens + sequence.output_tokens
        if longest > self.pool.config.max_tokens:
            raise AdvisorError(
                "request-too-long",
                f"a request of {longest} tokens is longer than the {self.pool.config.max_tokens} tokens of a slot",
                help=("raise the context of the plan",),
            )
        self._must_fit(longest - 1)
        self.waiting.append(sequence)

    def _must_fit(self, tokens: int) -> None:
        needed = self.pool.most_blocks(tokens)
        if needed > self.pool.config.blocks:
            raise AdvisorError(
                "kv-pool-too-small",
                f"one request needs {needed} blocks of {self.pool.config.block_tokens} tokens and the cache has {self.pool.config.blocks}",
                exit_code=ExitCode.DIED,
                notes=(f"{tokens} tokens to hold, room for {self.pool.config.blocks * self.pool.config.block_tokens}",),
                help=("give the cache more memory or shorten the context",),
            )

    def schedule(self) -> list[ScheduledChunk]:
        """Admit waiting sequences and return the chunks of the next step, decoding sequences first; empty when nothing can run."""
        self._evict()
        self._admit()
        if self.policy.token_budget:
            return self._packed(self.policy.token_budget)
        prompt = next((sequence for sequence in self.running if not sequence.decodes), None)
        if prompt is not None:
            self._reuse(prompt)
            piece = self._chunk(prompt, prompt.uncached_tokens)
            if piece is not None:
                return [piece]
        return self._decodes(None)

    def cache_prefix(self, sequence: Sequence) -> None:
        """Insert the sequence's full blocks into the prefix cache. Call it after the tokens of a step are read."""
        if sequence.cache is not None:
            self.pool.insert_prefix(sequence.cache, sequence.tokens)

    def finish(self, sequence: Sequence) -> None:
        """Remove the sequence and free its blocks. It may be waiting again, if it was preempted while its last token was unknown."""
        self.cache_prefix(sequence)
        if sequence in self.running:
            self._remove(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.done = True

    def _admit(self) -> None:
        """Continuous: while blocks are free, one spare block left for each running sequence. Static: only when nothing is running."""
        if not self.policy.continuous and self.running:
            return
        while self.waiting and len(self.running) < self.policy.max_sequences:
            sequence, cache = self.waiting[0], self.pool.open()
            reused = self.pool.match_prefix(cache, sequence.tokens)
            spare = 0 if self.pool.config.is_contiguous else len(self.running)
            if self._first_blocks(sequence) - len(cache.blocks) + self._blocks_still_needed() + spare > self.pool.free_blocks:
                self.pool.free(cache)
                return
            if self.pool.config.retention is None:
                self.pool.allocate(cache, len(sequence.tokens))
            sequence.cache = cache
            self.reused_tokens += reused
            self.running.append(self.waiting.popleft())

    def _evict(self) -> None:
        """Evict blocks that no later token attends to. Between steps every cached token is accepted."""
        for sequence in self.running if self.pool.config.retention is not None else ():
            if sequence.cache is not None:
                self.pool.evict(sequence.cache)

    def _first_blocks(self, sequence: Sequence) -> int:
        """Blocks for the first step of a sequence: of its prompt, or of the part of it that one step computes and the cache retains."""
        tokens = len(sequence.tokens)
        if self.pool.config.retention is None:
            return self.pool.blocks_for(tokens)
        step = min(self.policy.token_budget, tokens) if self.policy.token_budget and self.policy.chunked else tokens
        return min(self.pool.most_blocks(tokens, new=step), self.pool.config.blocks)

    def _blocks_still_needed(self) -> int:
        """Blocks that running sequences will still allocate before they evict some, where prompts allocate theirs chunk by chunk."""
        if self.pool.config.retention is None:
            return 0
        sequences = [(sequence.cache, len(sequence.tokens)) for sequence in self.running]
        return sum(max(self.pool.most_blocks(tokens) - len(cache.blocks), 0) for cache, tokens in sequences if cache is not None)

    def _chunk(self, sequence: Sequence, most: int) -> ScheduledChunk | None:
        """The next tokens of a prompt, at most `most`; in a cache that evicts, at most as many as free blocks hold."""
        count = min(most, sequence.uncached_tokens)
        if self.pool.config.retention is None:
            return ScheduledChunk(sequence, count)
        if not self._preempt_until_fits(sequence, sequence.cached + 1):
            return None
        assert sequence.cache is not None, "blocks were allocated for it"
        count = min(count, self.pool.reachable(sequence.cache) - sequence.cached)
        self.pool.allocate(sequence.cache, sequence.cached + count)
        return ScheduledChunk(sequence, count)

    def _packed(self, budget: int) -> list[ScheduledChunk]:
        """Decoding sequences first, then prompts up to the budget: the last one split to fit, or none split but at least one."""
        tasks = self._decodes(budget)
        left = budget - sum(task.count + task.drafts for task in tasks)
        prompts: list[ScheduledChunk] = []
        for sequence in [waiting for waiting in self.running if not waiting.decodes]:
            if left > 0:
                self._reuse(sequence)
            count = min(left, sequence.uncached_tokens) if self.policy.chunked else sequence.uncached_tokens
            if left <= 0 or (count > left and prompts):
                break
            piece = self._chunk(sequence, count) if sequence.cache is not None else None
            if piece is not None:
                prompts.append(piece)
                left -= piece.count
        return [task for task in tasks + prompts if task.sequence.cache is not None]

    def _decodes(self, budget: int | None) -> list[ScheduledChunk]:
        """A chunk for each decoding sequence whose next token has a block; draft tokens only where no sequence is preempted for them."""
        ready: list[ScheduledChunk] = []
        for sequence in [running for running in self.running if running.decodes and running.remaining]:
            if budget == 0:
                break
            if sequence.cache is None or not self._preempt_until_fits(sequence, len(sequence.tokens)):
                continue
            drafts = min(self.policy.draft_tokens, sequence.remaining - 1, self.policy.draft_tokens if budget is None else budget - 1)
            if drafts > 0 and not self.pool.allocate(sequence.cache, len(sequence.tokens) + drafts):
                drafts = 0
            ready.append(ScheduledChunk(sequence, 1, max(drafts, 0)))
            budget = None if budget is None else budget - 1 - ready[-1].drafts
        return [task for task in ready if task.sequence.cache is not None]

    def _reuse(self, sequence: Sequence) -> None:
        """Match prefixes that other sequences have cached since the sequence was admitted."""
        if sequence.cache is not None:
            self.reused_tokens += self.pool.match_prefix(sequence.cache, sequence.tokens)

    def _preempt_until_fits(self, sequence: Sequence, tokens: int) -> bool:
        """Allocate blocks for `tokens` tokens, preempting from the youngest sequence on; false when the sequence itself was preempted."""
        while sequence.cache is not None and not self.pool.allocate(sequence.cache, tokens):
            youngest = self.running[-1]
            self._remove(youngest)
            self.waiting.appendleft(youngest)
            self.preemptions += 1
        return sequence.cache is not None

    def _remove(self, sequence: Sequence) -> None:
        if sequence.cache is not None:
            self.pool.free(sequence.cache)
            sequence.cache = None
        self.running.remove(sequence)

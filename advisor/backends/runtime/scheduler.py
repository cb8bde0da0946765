"""Which sequences run in the next step, and on how many of their tokens. Knows blocks and budgets, no tensors."""

from collections import deque
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

from advisor.backends.runtime.pool import Held, Pool
from advisor.profiles.errors import AdvisorError, ExitCode


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """One request on its way. `tokens` is the prompt and what has come out so far."""

    index: int
    tokens: list[int]
    prompt_tokens: int
    output_tokens: int
    submitted_s: float
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    held: Held | None = None
    done: bool = False

    @property
    def cached(self) -> int:
        """Tokens whose keys and values are in the pool."""
        return self.held.tokens if self.held is not None else 0

    @property
    def pending(self) -> int:
        """Tokens that the model has not seen yet: one in decoding, more in prefill."""
        return len(self.tokens) - self.cached

    @property
    def decodes(self) -> bool:
        """Whether only the newest output token is pending."""
        return self.pending == 1 and self.cached > 0

    @property
    def remaining(self) -> int:
        """Output tokens still to come."""
        return self.prompt_tokens + self.output_tokens - len(self.tokens)


@dataclass(frozen=True, slots=True)
class Task:
    """A sequence's part of a step: its next `count` pending tokens."""

    sequence: Sequence
    count: int


@dataclass(frozen=True, slots=True)
class Policy:
    """How sequences are admitted and packed into steps; see `advisor.backends.deployment.Batching`."""

    continuous: bool
    max_sequences: int
    token_budget: int
    draft_tokens: int = 0


@dataclass(slots=True)
class Scheduler:
    """First come, first served; when the pool is dry the youngest sequence gives its blocks back and starts over."""

    policy: Policy
    pool: Pool
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)
    preemptions: int = 0
    _admitting: bool = True

    def submit(self, sequence: Sequence) -> None:
        """Queue a request. Raises `AdvisorError` when it could never fit."""
        longest = sequence.prompt_tokens + sequence.output_tokens
        if longest > self.pool.max_tokens:
            raise AdvisorError(
                "request-too-long",
                f"a request of {longest} tokens is longer than the {self.pool.max_tokens} tokens of a slot",
                help=("raise the context of the plan",),
            )
        self._must_fit(longest - 1)
        self.waiting.append(sequence)

    def _must_fit(self, tokens: int) -> None:
        needed = self.pool.blocks_for(tokens)
        if needed > self.pool.blocks:
            raise AdvisorError(
                "kv-pool-too-small",
                f"one request needs {needed} blocks of {self.pool.block_tokens} tokens and the cache has {self.pool.blocks}",
                exit_code=ExitCode.DIED,
                notes=(f"{tokens} tokens to hold, room for {self.pool.blocks * self.pool.block_tokens}",),
                help=("give the cache more memory or shorten the context",),
            )

    def next_tasks(self) -> list[Task]:
        """Admit what may start and pack the next step; empty when nothing is there to run."""
        self._admit()
        if self.policy.token_budget:
            return self._packed(self.policy.token_budget)
        prompts = [sequence for sequence in self.running if not sequence.decodes]
        if prompts:
            return [Task(prompts[0], prompts[0].pending)]
        return self._decodes(len(self.running))

    def finish(self, sequence: Sequence) -> None:
        """Take the sequence out and free its blocks."""
        self._drop(sequence)
        sequence.done = True

    def _admit(self) -> None:
        """Continuous: whenever there is room. Static: only into an empty machine."""
        if not self.policy.continuous and self.running:
            return
        while self.waiting and len(self.running) < self.policy.max_sequences:
            sequence = self.waiting[0]
            spare = len(self.running) if self.running else 0
            needed = self.pool.blocks_for(len(sequence.tokens))
            if needed + (spare if self.pool.block_tokens < self.pool.max_tokens else 0) > self.pool.free_blocks:
                return
            sequence.held = self.pool.open()
            self.pool.grow(sequence.held, len(sequence.tokens))
            self.running.append(self.waiting.popleft())

    def _packed(self, budget: int) -> list[Task]:
        """Decoding sequences first, then chunks of prompts up to the budget."""
        tasks = self._decodes(budget)
        left = budget - sum(task.count for task in tasks)
        for sequence in [waiting for waiting in self.running if not waiting.decodes]:
            if left <= 0:
                break
            count = min(left, sequence.pending)
            tasks.append(Task(sequence, count))
            left -= count
        return tasks

    def _decodes(self, limit: int) -> list[Task]:
        """One task for each decoding sequence that has, or gets, room for its next token."""
        ready: list[Task] = []
        for sequence in [decoding for decoding in self.running if decoding.decodes]:
            if len(ready) == limit:
                break
            if sequence.held is not None and self._make_room(sequence, len(sequence.tokens)):
                ready.append(Task(sequence, 1))
        return [task for task in ready if task.sequence.held is not None]

    def _make_room(self, sequence: Sequence, tokens: int) -> bool:
        """Grow the sequence, preempting from the youngest on; false when it had to give way itself."""
        while sequence.held is not None and not self.pool.grow(sequence.held, tokens):
            youngest = self.running[-1]
            self._drop(youngest)
            self.waiting.appendleft(youngest)
            self.preemptions += 1
        return sequence.held is not None

    def _drop(self, sequence: Sequence) -> None:
        if sequence.held is not None:
            self.pool.close(sequence.held)
            sequence.held = None
        self.running.remove(sequence)


def by_past(tasks: Items[Task], widest: int) -> list[Task]:
    """Tasks with a past and few tokens first: the order that a step wants."""
    return sorted(tasks, key=lambda task: task.sequence.cached == 0 or task.count > widest)

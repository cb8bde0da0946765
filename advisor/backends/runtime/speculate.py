"""Drafters propose the next tokens of sequences, which the model verifies in one step.

Both propose one continuation. A draft token is accepted when the model's own choice at its position, greedy or sampled, is the
same token, so that the output has exactly the model's distribution (speculative sampling with a point-mass proposal, arXiv:2211.17192).
"""

from collections.abc import Sequence as Items
from typing import Protocol

from advisor.backends.runtime.attention.step import SequenceInput
from advisor.backends.runtime.cache.pool import Pool, SequenceBlocks
from advisor.backends.runtime.runner import Runner
from advisor.backends.runtime.scheduler import ScheduledChunk, Sequence

LONGEST_MATCH = 3
"""Longest n-gram that is looked up, in tokens (github.com/apoorvumang/prompt-lookup-decoding)."""
MOST_BATCHED_TOKENS = 8
"""Most uncached tokens with which a sequence is drafted in the batch of all sequences instead of a prefill of its own."""


class Drafter(Protocol):
    """Proposes continuations."""

    def propose(self, tasks: Items[ScheduledChunk]) -> list[list[int]]:
        """At most `task.drafts` tokens for each task."""

    def retain(self, running: Items[Sequence]) -> None:
        """Drop the state of all other sequences."""

    @property
    def kv_bytes(self) -> int:
        """Bytes of the drafter's own cache."""


class PromptLookup:
    """Proposes the tokens that followed the latest earlier occurrence of the last three, two or one tokens.

    A continuation that reaches the end of the text is repeated from its first token.
    """

    kv_bytes = 0

    def __init__(self) -> None:
        self._seen: dict[int, _NgramIndex] = {}

    def propose(self, tasks: Items[ScheduledChunk]) -> list[list[int]]:
        """See `Drafter`; empty where nothing matches."""
        return [self._continuation(task.sequence, task.drafts) if task.drafts else [] for task in tasks]

    def retain(self, running: Items[Sequence]) -> None:
        """See `Drafter`."""
        alive = {sequence.index for sequence in running}
        self._seen = {index: endings for index, endings in self._seen.items() if index in alive}

    def _continuation(self, sequence: Sequence, count: int) -> list[int]:
        if sequence.index not in self._seen:
            self._seen[sequence.index] = _NgramIndex()
        index = self._seen[sequence.index].match(sequence.tokens)
        if index is None:
            return []
        text = sequence.tokens[index : index + count]
        return [text[i % len(text)] for i in range(count)]


class _NgramIndex:
    """Index of n-grams of one to `LONGEST_MATCH` tokens: the position after the latest occurrence of each."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def match(self, tokens: list[int]) -> int | None:
        """The position after the latest earlier occurrence of the longest matching suffix of `tokens`."""
        for end in range(self._indexed + 1, len(tokens)):
            for length in range(1, min(LONGEST_MATCH, end) + 1):
                self._after[tuple(tokens[end - length : end])] = end
        self._indexed = max(self._indexed, len(tokens) - 1)
        for length in range(min(LONGEST_MATCH, len(tokens)), 0, -1):
            index = self._after.get(tuple(tokens[-length:]))
            if index is not None:
                return index
        return None


class DraftModel:
    """A smaller model of the same vocabulary, which decodes greedily for all sequences in one batch, with its own cache."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._caches: dict[int, SequenceBlocks] = {}

    @property
    def pool(self) -> Pool:
        """The draft's cache."""
        return self.runner.pool

    @property
    def kv_bytes(self) -> int:
        """See `Drafter`."""
        return self.pool.allocated_bytes

    def propose(self, tasks: Items[ScheduledChunk]) -> list[list[int]]:
        """See `Drafter`: one pass for each draft token; the first one also computes the tokens that are not in the draft's cache."""
        drafts: list[list[int]] = [[] for _ in tasks]
        active = [index for index, task in enumerate(tasks) if task.drafts]
        while active:
            inputs = {index: self._input(tasks[index], drafts[index]) for index in active}
            short = [index for index in active if inputs[index].cache.tokens and len(inputs[index].tokens) <= MOST_BATCHED_TOKENS]
            order = short + [index for index in active if index not in short]
            last = [-1]
            for index in order:
                last.append(last[-1] + len(inputs[index].tokens))
            logits = self.runner.run([inputs[index] for index in order], last[1:], len(short))
            for index, token in zip(order, logits.argmax(-1).tolist(), strict=True):
                drafts[index].append(int(token))
            active = [index for index in active if len(drafts[index]) < tasks[index].drafts]
        return drafts

    def retain(self, running: Items[Sequence]) -> None:
        """See `Drafter`."""
        for index in set(self._caches) - {sequence.index for sequence in running}:
            self.pool.free(self._caches.pop(index))

    def _input(self, task: ScheduledChunk, drafted: list[int]) -> SequenceInput:
        """Tokens that are not in the draft's cache: those since its last pass; then its own last token."""
        tokens, index = task.sequence.tokens, task.sequence.index
        if index not in self._caches:
            self._caches[index] = self.pool.open()
        cache = self._caches[index]
        if drafted:
            return SequenceInput(cache, drafted[-1:])
        self.pool.truncate(cache, min(cache.tokens, len(tokens) - 1))
        self.pool.allocate(cache, len(tokens) + task.drafts)
        return SequenceInput(cache, tokens[cache.tokens :])

"""Drafters: what the next tokens might be, for the model to verify several at once.

Both propose one certain continuation. A draft token is accepted when the model's own choice at its place, greedy or drawn, is the
same; so the output has exactly the model's distribution (speculative sampling with a point-mass proposal, arXiv:2211.17192).
"""

from collections.abc import Sequence as Items
from typing import Protocol

from advisor.backends.runtime.attention.step import SequenceInput
from advisor.backends.runtime.cache.pool import Pool, SequenceBlocks
from advisor.backends.runtime.runner import Runner
from advisor.backends.runtime.scheduler import ScheduledChunk, Sequence

LONGEST_MATCH = 3
"""Tokens, as in the first prompt-lookup decoding (github.com/apoorvumang/prompt-lookup-decoding)."""
FEW = 8
"""Tokens by which a draft cache may lag and still be fed in the batch of all sequences."""


class Drafter(Protocol):
    """Proposes continuations."""

    def propose(self, tasks: Items[ScheduledChunk]) -> list[list[int]]:
        """At most `task.drafts` tokens for each task."""

    def retain(self, running: Items[Sequence]) -> None:
        """Forget every sequence but these."""

    @property
    def kv_bytes(self) -> int:
        """Bytes of the drafter's own cache."""


class PromptLookup:
    """Continues as the text did after the latest earlier place that ends in the same three, two or one tokens.

    A continuation that reaches the end of the text is repeated from its start.
    """

    kv_bytes = 0

    def __init__(self) -> None:
        self._seen: dict[int, _Endings] = {}

    def propose(self, tasks: Items[ScheduledChunk]) -> list[list[int]]:
        """See `Drafter`; empty where nothing matches."""
        return [self._continue(task.sequence, task.drafts) if task.drafts else [] for task in tasks]

    def retain(self, running: Items[Sequence]) -> None:
        """See `Drafter`."""
        alive = {sequence.index for sequence in running}
        self._seen = {index: endings for index, endings in self._seen.items() if index in alive}

    def _continue(self, sequence: Sequence, count: int) -> list[int]:
        if sequence.index not in self._seen:
            self._seen[sequence.index] = _Endings()
        index = self._seen[sequence.index].match(sequence.tokens)
        if index is None:
            return []
        text = sequence.tokens[index : index + count]
        return [text[i % len(text)] for i in range(count)]


class _Endings:
    """Where each run of one to `LONGEST_MATCH` tokens was last followed by another token."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def match(self, tokens: list[int]) -> int | None:
        """The place after the latest earlier occurrence of the longest matching end of `tokens`."""
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
    """A smaller model of the same vocabulary, decoding greedily for all sequences together, with a cache of its own."""

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
        """See `Drafter`: as many passes as the longest proposal, the first of which also catches up on the text so far."""
        drafts: list[list[int]] = [[] for _ in tasks]
        active = [index for index, task in enumerate(tasks) if task.drafts]
        while active:
            inputs = {index: self._input(tasks[index], drafts[index]) for index in active}
            short = [index for index in active if inputs[index].cache.tokens and len(inputs[index].tokens) <= FEW]
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
        """What the draft has not seen: the text since its last turn, less what was not accepted of it; then its own last token."""
        tokens, index = task.sequence.tokens, task.sequence.index
        if index not in self._caches:
            self._caches[index] = self.pool.open()
        cache = self._caches[index]
        if drafted:
            return SequenceInput(cache, drafted[-1:])
        self.pool.truncate(cache, min(cache.tokens, len(tokens) - 1))
        self.pool.allocate(cache, len(tokens) + task.drafts)
        return SequenceInput(cache, tokens[cache.tokens :])

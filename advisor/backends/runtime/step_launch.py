"""Launches steps on the device: inputs, also those that the host has not read yet, sampling, and the copy of output tokens to the host."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from advisor.backends.runtime.attention.step import SequenceInput
from advisor.backends.runtime.decode_program import DecodeProgram
from advisor.backends.runtime.device.clock import DeviceClock, Mark
from advisor.backends.runtime.device.decode_batch import DecodeEntry
from advisor.backends.runtime.device.token_ring import TokenCopy, TokenRing, upload
from advisor.backends.runtime.runner import DeviceTokens, Runner
from advisor.backends.runtime.sampler import Sampler
from advisor.backends.runtime.scheduler import UNKNOWN, ScheduledChunk
from advisor.backends.runtime.scheduler import Sequence as Running


@dataclass(frozen=True, slots=True)
class LaunchPart:
    """Output of a step for one sequence: a token for every draft token, and one after them."""

    sequence: Running
    draft: Sequence[int]
    position: int
    """Position of the first of them in the sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A launched step whose tokens were not read yet."""

    parts: tuple[LaunchPart, ...]
    tokens: Tensor | None
    """Output tokens on the device, in the order of the parts; `None` where only parts of prompts were computed."""
    copy: TokenCopy | None
    captured: bool
    begin: Mark
    end: Mark
    begin_s: float
    """When the host began to schedule it, seconds."""
    follows: bool
    """Whether no wait for arrivals lay between it and the step before."""


class Launcher:
    """Launches steps one after another. The output tokens of the last one can be inputs of the next before the host has read them."""

    def __init__(self, runner: Runner, program: DecodeProgram, sampler: Sampler, ring: TokenRing, clock: DeviceClock) -> None:
        self.runner = runner
        self.program = program
        self.sampler = sampler
        self.ring = ring
        self.clock = clock
        self._tokens: Tensor | None = None
        self._sources: dict[int, int] = {}

    def launch(self, tasks: Sequence[ScheduledChunk], drafts: Sequence[Sequence[int]], *, begin_s: float, follows: bool) -> Launch:
        """Launch a step of `tasks`, decoding ones first; `drafts` has draft tokens for each of those.

        The sequences are advanced: their caches by the computed tokens, their `tokens` by `UNKNOWN` where a token is sampled.
        """
        ready = [task for task in tasks if task.sequence.decodes or task.count == task.sequence.uncached_tokens]
        all_drafts = (*drafts, *([] for _ in range(len(ready) - len(drafts))))
        parts = tuple(LaunchPart(task.sequence, draft, len(task.sequence.tokens)) for task, draft in zip(ready, all_drafts, strict=True))
        is_decode_only = len(drafts) == len(tasks) and not any(drafts)
        if is_decode_only:
            self.program.set_batch([self._entry_of(task.sequence) for task in tasks], self._tokens)
            self.runner.pool.send_tables()
        begin = self.clock.mark()
        tokens, captured = self._decode(tasks) if is_decode_only else (self._run_mixed(tasks, drafts, parts), False)
        end = self.clock.mark()
        copy = None if tokens is None else self.ring.put(tokens)
        self._remember(parts, tokens)
        return Launch(parts=parts, tokens=tokens, copy=copy, captured=captured, begin=begin, end=end, begin_s=begin_s, follows=follows)

    def _decode(self, tasks: Sequence[ScheduledChunk]) -> tuple[Tensor, bool]:
        """A step of one token for every sequence, by the decode program."""
        caches = [task.sequence.cache for task in tasks if task.sequence.cache is not None]
        tokens, captured = self.program.run(caches)
        for cache in caches:
            cache.tokens += 1
        return tokens, captured

    def _entry_of(self, sequence: Running) -> DecodeEntry:
        assert sequence.cache is not None, "a task's sequence holds blocks"
        token = sequence.tokens[-1]
        return DecodeEntry(
            number=sequence.index,
            row=sequence.cache.row,
            position=sequence.cache.tokens,
            stored=sequence.cache.tokens - sequence.cache.evicted,
            token=None if token == UNKNOWN else token,
            source=self._sources[sequence.index] if token == UNKNOWN else 0,
        )

    def _run_mixed(self, tasks: Sequence[ScheduledChunk], drafts: Sequence[Sequence[int]], parts: Sequence[LaunchPart]) -> Tensor | None:
        """A step with prompt chunks, draft tokens and single tokens, by the runner."""
        inputs: list[SequenceInput] = []
        wanted: list[int] = []
        unknown: list[tuple[int, int]] = []
        row = 0
        for index, task in enumerate(tasks):
            sequence, draft = task.sequence, list(drafts[index]) if index < len(drafts) else []
            assert sequence.cache is not None, "a task's sequence holds blocks"
            tokens = sequence.tokens[sequence.cached : sequence.cached + task.count] + draft
            if tokens[0] == UNKNOWN:
                unknown.append((row, self._sources[sequence.index]))
                tokens = [0]
            inputs.append(SequenceInput(sequence.cache, tokens))
            row += len(tokens)
            if task.count == sequence.uncached_tokens:
                wanted += range(row - 1 - len(draft), row)
        logits = self.runner.run(inputs, wanted, len(drafts), self._carried(unknown))
        if not wanted:
            return None
        device = logits.device
        numbers = [part.sequence.index for part in parts for _ in range(len(part.draft) + 1)]
        positions = [part.position + i for part in parts for i in range(len(part.draft) + 1)]
        if self.sampler.sampling.is_greedy:
            return logits.argmax(-1)
        return self.sampler.choose(logits, upload(numbers, device), upload(positions, device))

    def _carried(self, unknown: Sequence[tuple[int, int]]) -> DeviceTokens | None:
        if not unknown or self._tokens is None:
            return None
        rows, sources = upload(list(zip(*unknown, strict=True)), self._tokens.device)
        return DeviceTokens(rows, self._tokens.index_select(0, sources))

    def _remember(self, parts: Sequence[LaunchPart], tokens: Tensor | None) -> None:
        """Record the index of each sequence's token, and append `UNKNOWN` to each sequence."""
        self._tokens = tokens
        self._sources = {}
        row = 0
        for part in parts:
            self._sources[part.sequence.index] = row
            row += len(part.draft) + 1
            part.sequence.tokens.append(UNKNOWN)

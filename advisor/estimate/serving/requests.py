"""Requests of a simulated engine, the set of those that decode, and the blocks of the cache."""

from dataclasses import dataclass
from heapq import heappop, heappush

from advisor.backends.deployment import CacheRetention


@dataclass(frozen=True, slots=True)
class SimPool:
    """The paged cache of one replica."""

    blocks: float
    block_tokens: int = 1
    fixed_blocks: float = 0.0
    """Blocks of a sequence that do not grow with its length: recurrent states and full windows, less the blocks of a shared prefix."""
    reserves: bool = False
    """Whether a request starts only once the blocks up to its last token are free; else blocks are allocated as sequences grow."""

    def blocks_of(self, tokens: int) -> int:
        """Blocks of one sequence of `tokens`."""
        return -(-tokens // self.block_tokens)


UNLIMITED_POOL = SimPool(float("inf"))


@dataclass(slots=True, eq=False)
class SimRequest:
    """A simulated request. All decoding sequences advance equally, so it finishes when their common counter reaches `ends_at`."""

    number: int
    arrival_s: float
    prompt: int
    output: int
    prefilled: int = 0
    produced: int = 0
    """Output tokens at the start of its current decoding, at its preemption, or at its end."""
    joined_at: float = 0.0
    ends_at: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    preemptions: int = 0
    reused: int = 0
    """Prompt tokens that prefix caching found in the cache."""

    @property
    def tpot_s(self) -> float | None:
        """Seconds per output token after the first, of a finished request; `None` for a single token."""
        return (self.last_s - self.first_s) / (self.output - 1) if self.output > 1 else None

    @property
    def prefill_tokens(self) -> int:
        """Tokens to prefill before it decodes: the prompt, and after a preemption the output so far."""
        return self.prompt + self.produced


class DecodeSet:
    """The decoding sequences: a heap by the common counter at which they finish, the sum of their contexts, and their blocks.

    A sequence holds a constant plus the common counter of tokens. The number of blocks follows from a histogram of these constants
    modulo the block size, so that no operation visits every sequence.
    """

    def __init__(self, block: int) -> None:
        self.block = block
        self._counter = 0.0
        self._context_sum = 0.0
        self._count = 0
        self._heap: list[tuple[float, int, SimRequest]] = []
        self._whole_blocks = 0
        self._offset_counts = [0] * block

    def __len__(self) -> int:
        return self._count

    @property
    def mean_context(self) -> float:
        """Mean tokens of a sequence in the next step."""
        return self._context_sum / self._count

    @property
    def next_completion(self) -> float:
        """Tokens until the next sequence finishes."""
        self._drop_stale()
        return self._heap[0][0] - self._counter

    def add(self, request: SimRequest) -> None:
        """Start to decode a request, whose prefill computed one output token."""
        request.produced += 1
        request.joined_at, request.ends_at = self._counter, self._counter + request.output - request.produced
        self._count += 1
        self._context_sum += request.prompt + request.produced
        self._count_offset(request, 1)
        heappush(self._heap, (request.ends_at, request.number, request))

    def preempt(self, request: SimRequest) -> int:
        """Remove an unfinished request; returns its output tokens so far."""
        written = request.produced + int(self._counter - request.joined_at)
        self._remove(request)
        request.ends_at = -1.0
        return min(written, request.output - 1)

    def advance(self, tokens: float) -> None:
        """Add `tokens` output tokens to every sequence."""
        self._counter += tokens
        self._context_sum += tokens * self._count

    def pop_done(self) -> list[SimRequest]:
        """Remove and return the finished requests."""
        done = []
        while self._heap and self._heap[0][0] <= self._counter + 1e-6:
            ends_at, _, request = heappop(self._heap)
            if ends_at == request.ends_at:
                self._remove(request)
                request.produced, request.ends_at = request.output, -1.0
                done.append(request)
        return done

    def blocks(self, ahead: float) -> int:
        """Blocks of all sequences once each has `ahead` more tokens."""
        whole, offset = divmod(self._counter + ahead, self.block)
        carried = sum(self._offset_counts[int(self.block - offset) + 1 :])
        return self._whole_blocks + self._count * int(whole + 1) + carried - (self._offset_counts[0] if offset == 0 else 0)

    def retained_blocks(self, retention: CacheRetention) -> int:
        """Most blocks of all sequences where each retains sink tokens and a window."""
        current = (request for ends_at, _, request in self._heap if ends_at == request.ends_at)
        lengths = (request.prompt + request.produced + int(self._counter - request.joined_at) - 1 for request in current)
        return sum(retention.blocks(length, self.block) for length in lengths)

    def _remove(self, request: SimRequest) -> None:
        self._count -= 1
        self._context_sum -= request.prompt + request.produced + self._counter - request.joined_at
        self._count_offset(request, -1)

    def _count_offset(self, request: SimRequest, change: int) -> None:
        whole, offset = divmod(request.prompt + request.produced - int(request.joined_at), self.block)
        self._whole_blocks += change * whole
        self._offset_counts[offset] += change

    def _drop_stale(self) -> None:
        while self._heap[0][0] != self._heap[0][2].ends_at:
            heappop(self._heap)

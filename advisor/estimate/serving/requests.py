"""The requests that a simulated engine holds: those on their way, those that decode, and the blocks they take."""

from dataclasses import dataclass
from heapq import heappop, heappush

from advisor.backends.deployment import CacheRetention


@dataclass(frozen=True, slots=True)
class SimPool:
    """A finite cache of one replica."""

    blocks: float
    block_tokens: int = 1
    fixed_blocks: float = 0.0
    """What a sequence takes whatever its length, in blocks: recurrent states, windows that are full; less what all share."""
    reserves: bool = False
    """A request starts only when its blocks up to its last token are free; else blocks are handed out as sequences grow."""

    def blocks_of(self, tokens: int) -> int:
        """Blocks that hold so many tokens of one sequence."""
        return -(-tokens // self.block_tokens)


UNLIMITED_POOL = SimPool(float("inf"))


@dataclass(slots=True, eq=False)
class SimRequest:
    """A request on its way. All that decode gain alike, so it is done when the common counter reaches `ends_at`."""

    number: int
    arrival_s: float
    prompt: int
    output: int
    prefilled: int = 0
    produced: int = 0
    """Tokens written when it last started to decode; all of them once it was preempted."""
    joined_at: float = 0.0
    ends_at: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    preemptions: int = 0
    reused: int = 0
    """Prompt tokens that others had computed when it started."""

    @property
    def tpot_s(self) -> float | None:
        """Of a finished request: time per output token after the first; `None` for a single token."""
        return (self.last_s - self.first_s) / (self.output - 1) if self.output > 1 else None

    @property
    def prefill_tokens(self) -> int:
        """Tokens to prefill before it decodes: the prompt, and what it had written when it was preempted."""
        return self.prompt + self.produced


class DecodeSet:
    """The sequences that decode: a heap by the common counter, the sum of their contexts, and their blocks.

    In a step, a sequence holds `base + counter` tokens, so blocks follow from how many bases there are in each place of a block.
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
        """Tokens of one sequence in the next step."""
        return self._context_sum / self._count

    @property
    def next_completion(self) -> float:
        """Tokens until the next one is done."""
        self._drop_stale()
        return self._heap[0][0] - self._counter

    def add(self, active: SimRequest) -> None:
        """Start to decode: the prefill brought one more token."""
        active.produced += 1
        active.joined_at, active.ends_at = self._counter, self._counter + active.output - active.produced
        self._count += 1
        self._context_sum += active.prompt + active.produced
        self._place(active, 1)
        heappush(self._heap, (active.ends_at, active.number, active))

    def preempt(self, active: SimRequest) -> int:
        """Stop before the end; the tokens it has written."""
        written = active.produced + int(self._counter - active.joined_at)
        self._forget(active)
        active.ends_at = -1.0
        return min(written, active.output - 1)

    def advance(self, tokens: float) -> None:
        """Every sequence writes so many tokens."""
        self._counter += tokens
        self._context_sum += tokens * self._count

    def pop_done(self) -> list[SimRequest]:
        """Take out whoever has written all."""
        done = []
        while self._heap and self._heap[0][0] <= self._counter + 1e-6:
            ends_at, _, active = heappop(self._heap)
            if ends_at == active.ends_at:
                self._forget(active)
                active.produced, active.ends_at = active.output, -1.0
                done.append(active)
        return done

    def blocks(self, ahead: float) -> int:
        """Blocks that all hold `ahead` tokens from now."""
        turn, rest = divmod(self._counter + ahead, self.block)
        past = sum(self._offset_counts[int(self.block - rest) + 1 :])
        return self._whole_blocks + self._count * int(turn + 1) + past - (self._offset_counts[0] if rest == 0 else 0)

    def retained_blocks(self, kept: CacheRetention) -> int:
        """Blocks that all hold at the most where each keeps only so much of itself."""
        current = (active for ends_at, _, active in self._heap if ends_at == active.ends_at)
        lengths = (active.prompt + active.produced + int(self._counter - active.joined_at) - 1 for active in current)
        return sum(kept.blocks(length, self.block) for length in lengths)

    def _forget(self, active: SimRequest) -> None:
        self._count -= 1
        self._context_sum -= active.prompt + active.produced + self._counter - active.joined_at
        self._place(active, -1)

    def _place(self, active: SimRequest, change: int) -> None:
        whole, place = divmod(active.prompt + active.produced - int(active.joined_at), self.block)
        self._whole_blocks += change * whole
        self._offset_counts[place] += change

    def _drop_stale(self) -> None:
        while self._heap[0][0] != self._heap[0][2].ends_at:
            heappop(self._heap)

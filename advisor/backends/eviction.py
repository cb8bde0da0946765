"""What a cache that forgets keeps of a sequence: its first tokens and the newest ones, given back in whole blocks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kept:
    """The next token sees the `first` tokens and the newest `window`, itself included."""

    window: int
    first: int = 0

    def front_blocks(self, block_tokens: int) -> int:
        """Blocks that hold the first tokens and never leave."""
        return -(-self.first // block_tokens)

    def evicted(self, tokens: int, block_tokens: int) -> int:
        """Tokens, in whole blocks after the front, that the one at place `tokens` and all later ones see no more."""
        unseen = max(tokens - self.window + 1, 0) // block_tokens
        return max(unseen - self.front_blocks(block_tokens), 0) * block_tokens

    def blocks(self, tokens: int, block_tokens: int, new: int = 1) -> int:
        """Most blocks that a sequence of `tokens` tokens holds while `new` of them are written together."""
        span = self.window - 1 + new
        most = self.front_blocks(block_tokens) + (span + block_tokens - 2) // block_tokens + 1
        return min(-(-tokens // block_tokens), most)

    def turned_back(self, place: int) -> int:
        """Places between where a token that reads the cache from `place` stands and its place within the cache (arXiv 2309.17453)."""
        return max(place - (self.first + self.window - 1), 0) if self.first else 0

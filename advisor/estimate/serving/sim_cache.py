"""The cache of a simulated engine: the prefix that prompts share, and the tokens that all sequences take."""

from collections.abc import Collection, Sequence

from advisor.backends.deployment import CacheRetention
from advisor.estimate.memory.ledger import full_blocks, reused_tokens
from advisor.estimate.serving.requests import DecodeSet, SimRequest


class SharedPrefix:
    """A prefix of `tokens` that all prompts share, cached in full blocks of `block` tokens once a prompt has computed it."""

    def __init__(self, tokens: int, block: int) -> None:
        self._tokens = tokens
        self._block = block
        self._cached = 0
        """Tokens of the prefix that the cache holds."""
        self._prompt_tokens = 0
        """Prompt tokens that were found in the cache instead of prefilled."""

    def reuse(self, request: SimRequest) -> None:
        """Skip the tokens of a prompt that the cache holds, if it stands at the end of a block; never the last token."""
        cached = reused_tokens(self._cached, request.prompt, self._block) if self._cached else 0
        if cached > request.prefilled and request.prefilled % self._block == 0:
            request.reused += cached - request.prefilled
            self._prompt_tokens += cached - request.prefilled
            request.prefilled = cached

    def register(self, tokens: int) -> None:
        """Note that some prompt is computed up to `tokens`: its full blocks are in the cache."""
        if self._cached < self._tokens:
            self._cached = max(self._cached, full_blocks(min(tokens, self._tokens), self._block))

    def hits(self, done: Sequence[SimRequest]) -> float | None:
        """Share of the prompt tokens of finished requests that were found in the cache; `None` without a shared prefix."""
        return min(self._prompt_tokens / sum(request.prompt for request in done), 1.0) if self._tokens else None


def cached_tokens(running: DecodeSet, prefilling: Collection[SimRequest], retention: CacheRetention | None, chunk: int | None) -> int:
    """Tokens in the cache, each sequence rounded up to its blocks. `chunk` is the most tokens of a prompt in one step, `None` for all."""
    block = running.block
    if retention is not None:  # one prompt at a time holds more than it retains; later ones hold nothing yet
        lengths = (request.prefill_tokens for request in prefilling)
        transient = (retention.blocks(length, block, length if chunk is None else chunk) for length in lengths)
        return (running.retained_blocks(retention) + max(transient, default=0)) * block
    # With draft tokens, a last step may yield more tokens than were left to generate.
    decoding = running.blocks(min(running.next_completion, 0.0) - 1) if len(running) else 0
    return (decoding + sum(-(-request.prefill_tokens // block) for request in prefilling)) * block


def shared_tokens(started: Sequence[SimRequest]) -> int:
    """Tokens of shared blocks that are counted for more than one sequence."""
    reused = [request.reused for request in started]
    return sum(reused) - (max(reused) if reused and all(reused) else 0)

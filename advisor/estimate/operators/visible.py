"""What tokens see of a context under a chosen window or pattern: the keys a decoding step reads, the scores a prompt computes."""

from typing import TYPE_CHECKING

from advisor.backends.deployment import AttentionBackend, Deployment, KvLayout
from advisor.estimate.operators.types import Phase

if TYPE_CHECKING:  # operators ask for densities
    from advisor.estimate.operators.types import StepPart

WINDOW_BLOCK = 64
"""Tokens of the blocks in which a prompt under a window is computed."""


def read_tokens(deployment: Deployment, tokens: int) -> int:
    """Most keys that decoding reads of `tokens`: all of a contiguous cache, whose unseen part is only masked."""
    attention, kv = deployment.attention, deployment.kv
    if kv.layout == KvLayout.CONTIGUOUS:
        return tokens
    if attention.pattern is not None:
        return min(tokens, attention.pattern.seen_tokens + attention.pattern.block_tokens)
    return min(tokens, attention.window) if attention.window is not None else tokens


def computed_share(deployment: Deployment, part: "StepPart") -> float:
    """Share of a prompt's causal scores that are computed: blocks in which nobody sees anything are skipped."""
    attention = deployment.attention
    if part.phase == Phase.DECODE or (
        attention.pattern is None and (attention.window is None or attention.backend == AttentionBackend.EAGER)
    ):
        return 1.0
    pattern = attention.pattern
    span = (attention.window or 0) + WINDOW_BLOCK if pattern is None else pattern.seen_tokens + pattern.block_tokens
    return causal_scores(part.q_tokens, part.kv_tokens, span) / causal_scores(part.q_tokens, part.kv_tokens, part.kv_tokens)


def causal_scores(queries: int, keys: int, span: int) -> float:
    """Scores of `queries` tokens at the end of `keys`, each of which sees itself and those before it, `span` at the most."""
    first = keys - queries + 1
    short = min(max(span - first, 0), queries)
    return short * first + short * (short - 1) / 2 + (queries - short) * min(span, keys)

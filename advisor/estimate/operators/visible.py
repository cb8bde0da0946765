"""How much of a context attention covers under a window or block pattern: keys that decoding reads, scores that prefill computes."""

from advisor.backends.deployment import AttentionBackend, Deployment, KvLayout
from advisor.estimate.operators.types import Phase, StepPart

WINDOW_BLOCK = 64
"""Keys in one block of a prefill kernel: blocks that a window masks entirely are skipped, others are computed whole."""


def read_tokens(deployment: Deployment, tokens: int) -> int:
    """Keys that one decoding query reads of a context of `tokens`: all of a contiguous cache, where a window is only a mask."""
    attention, kv = deployment.attention, deployment.kv
    if kv.layout == KvLayout.CONTIGUOUS:
        return tokens
    if attention.pattern is not None:
        return min(tokens, attention.pattern.seen_tokens + attention.pattern.block_tokens)
    return min(tokens, attention.window) if attention.window is not None else tokens


def computed_share(deployment: Deployment, part: StepPart) -> float:
    """Share of a prompt's causal scores that are computed, 1 for decoding; blocks that a window or pattern masks are skipped."""
    attention = deployment.attention
    if part.phase == Phase.DECODE or (
        attention.pattern is None and (attention.window is None or attention.backend == AttentionBackend.EAGER)
    ):
        return 1.0
    pattern = attention.pattern
    window = (attention.window or 0) + WINDOW_BLOCK if pattern is None else pattern.seen_tokens + pattern.block_tokens
    return causal_scores(part.q_tokens, part.kv_tokens, window) / causal_scores(part.q_tokens, part.kv_tokens, part.kv_tokens)


def causal_scores(queries: int, keys: int, window: int) -> float:
    """Scores of the last `queries` of `keys` tokens, each of which attends to itself and at most `window - 1` tokens before it."""
    first = keys - queries + 1
    short = min(max(window - first, 0), queries)
    return short * first + short * (short - 1) / 2 + (queries - short) * min(window, keys)

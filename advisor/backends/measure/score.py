"""What a session's model thinks of a text, computed through the attention and the cache that it serves with."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from advisor.backends.session import Session

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch


def window_log_probs(session: Session, windows: "torch.Tensor", on_window: Callable[[int, int], None]) -> "Iterator[torch.Tensor]":
    """Log-probabilities [T-1, V] of the next token at each place of every window of [W, T], single precision, on the CPU.

    A window goes through the session's own cache: with a quantised one, keys and values are read back from it, not reused.
    """
    from advisor.backends.runtime.attention import Feed
    from advisor.backends.runtime.engage import engaged

    length = windows.shape[1]
    alone = replace(session, max_tokens=length, max_sequences=1, kv_capacity_tokens=None, decoding="plain", draft_tokens=0)
    with engaged(alone) as ready:
        pool = ready.runner.pool
        for index, window in enumerate(windows.tolist()):
            held = pool.open()
            pool.grow(held, length)
            logits = ready.runner.run([Feed(held, window)], wanted=range(length - 1), grouped=0)
            pool.close(held)
            yield logits.float().log_softmax(-1).cpu()
            on_window(index + 1, len(windows))

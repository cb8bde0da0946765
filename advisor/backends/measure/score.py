"""What a session's model thinks of a text, computed through the attention and the cache that it serves with."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from advisor.backends.deployment import Decoding
from advisor.backends.model.loaded_model import LoadedModel

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

    from advisor.backends.runtime.runner import Runner

TOGETHER = 8
"""Windows that go through the model side by side where each goes in many small pieces."""
MOST_LOGITS = 2**26
"""Elements of the logits of windows that are kept at once."""


def window_log_probs(session: LoadedModel, windows: "torch.Tensor", on_window: Callable[[int, int], None]) -> "Iterator[torch.Tensor]":
    """Log-probabilities [T-1, V] of the next token at each place of every window of [W, T], single precision, on the CPU.

    Every token finds its past as it would in decoding: keys and values are read back from the session's own cache, rounded or
    forgotten as that has it. Where the newest page is kept exact, a window goes through page by page.
    """
    from advisor.backends.runtime.prepare import prepared_session, room_of

    length = windows.shape[1]
    alone = replace(
        session, max_tokens=length, batching=replace(session.batching, max_sequences=1), kv_capacity_tokens=None, decoding=Decoding()
    )
    room = room_of(alone)
    together = min(TOGETHER, max(MOST_LOGITS // (length * vocabulary(session)), 1)) if room.has_ring else 1
    with prepared_session(replace(alone, batching=replace(alone.batching, max_sequences=together))) as ready:
        done = 0
        for start in range(0, len(windows), together):
            chosen = windows[start : start + together]
            for scores in _log_probs(ready.runner, chosen.tolist(), room.page_tokens if room.has_ring else length):
                yield scores[:-1].cpu()
                done += 1
                on_window(done, len(windows))


def vocabulary(session: LoadedModel) -> int:
    """Tokens that the model tells apart."""
    return int(session.model.config.get_text_config().vocab_size)


def _log_probs(runner: "Runner", windows: list[list[int]], piece: int) -> "Iterator[torch.Tensor]":
    """[T, V] of each window, all going through the cache together, `piece` tokens at a time."""
    import torch

    from advisor.backends.runtime.attention.step import SequenceInput

    pool, length = runner.pool, len(windows[0])
    held = [pool.open() for _ in windows]
    parts = []
    for start in range(0, length, piece):
        feeds = [SequenceInput(each, window[start : start + piece]) for each, window in zip(held, windows, strict=True)]
        for feed in feeds:
            pool.allocate(feed.held, start + len(feed.tokens))
        rows = range(sum(len(feed.tokens) for feed in feeds))
        parts.append(runner.run(feeds, rows, grouped=len(feeds)).view(len(feeds), len(feeds[0].tokens), -1))
    for each in held:
        pool.free(each)
    for index in range(len(windows)):
        yield torch.cat([part[index] for part in parts]).float().log_softmax(-1)

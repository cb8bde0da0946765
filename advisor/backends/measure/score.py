"""Next-token log-probabilities of a session's model, computed through the attention and the cache that it serves with."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from advisor.backends.deployment import Decoding
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.runtime.token_ids import check_token_ids, vocabulary_size

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

    from advisor.backends.runtime.runner import Runner

BATCH = 8
"""Windows in one batch where each is fed in chunks of one page."""
MOST_LOGITS = 2**26
"""Most logits, of all windows of a batch, in memory at once."""


def window_log_probs(session: LoadedModel, windows: "torch.Tensor", on_window: Callable[[int, int], None]) -> "Iterator[torch.Tensor]":
    """Log-probabilities [T-1, V] of the next token at each position of every window of [W, T], in single precision, on the CPU.

    Keys and values are read back from the session's own cache as in decoding, quantised or evicted as its settings say. Where the
    newest page is stored unquantised, windows are fed in chunks of one page. Raises `AdvisorError` `bad-tokens`, and as `serve` does.
    """
    from advisor.backends.runtime.prepare import cache_config_of, prepared_session

    check_token_ids(session.model, windows.tolist())
    length = windows.shape[1]
    alone = replace(
        session, max_tokens=length, batching=replace(session.batching, max_sequences=1), kv_capacity_tokens=None, decoding=Decoding()
    )
    cache = cache_config_of(alone)
    batch = min(BATCH, max(MOST_LOGITS // (length * vocabulary(session)), 1)) if cache.has_ring else 1
    with prepared_session(replace(alone, batching=replace(alone.batching, max_sequences=batch))) as ready:
        done = 0
        for start in range(0, len(windows), batch):
            chosen = windows[start : start + batch]
            for scores in _log_probs(ready.runner, chosen.tolist(), cache.page_tokens if cache.has_ring else length):
                yield scores[:-1].cpu()
                done += 1
                on_window(done, len(windows))


def vocabulary(session: LoadedModel) -> int:
    """Size of the model's vocabulary."""
    return vocabulary_size(session.model)


def _log_probs(runner: "Runner", windows: list[list[int]], chunk: int) -> "Iterator[torch.Tensor]":
    """Log-probabilities [T, V] of each window, all windows in one batch, `chunk` tokens at a time."""
    import torch

    from advisor.backends.runtime.attention.step import SequenceInput

    pool, length = runner.pool, len(windows[0])
    sequences = [pool.open() for _ in windows]
    parts = []
    for start in range(0, length, chunk):
        inputs = [SequenceInput(blocks, window[start : start + chunk]) for blocks, window in zip(sequences, windows, strict=True)]
        for sequence in inputs:
            pool.allocate(sequence.cache, start + len(sequence.tokens))
        rows = range(sum(len(sequence.tokens) for sequence in inputs))
        parts.append(runner.run(inputs, rows, n_decode=len(inputs)).view(len(inputs), len(inputs[0].tokens), -1))
    for blocks in sequences:
        pool.free(blocks)
    for index in range(len(windows)):
        yield torch.cat([part[index] for part in parts]).float().log_softmax(-1)

"""The attention of one layer as a step runs it, cache write included, for timing."""

from collections.abc import Callable
from contextlib import nullcontext
from math import inf
from typing import Literal

import torch

from advisor.backends.runtime.attention.autotune import Autotuner
from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
from advisor.backends.runtime.cache.pool import CacheConfig, KvShape, Pool
from advisor.backends.runtime.model.attention_hook import Options
from advisor.profiles.errors import AdvisorError, ExitCode


def attention_layer_callable(
    *,
    implementation: str,
    layout: str,
    kv_format: str,
    phase: Literal["prefill", "decode"],
    batch: int,
    q_tokens: int,
    kv_tokens: int,
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    block_tokens: int = 16,
    device: torch.device | None = None,
) -> Callable[[], None]:
    """A callable that runs one layer's attention for `batch` sequences of `q_tokens` new tokens and `kv_tokens` keys, new ones included.

    In `decode` the sequences attend in one batched product, in `prefill` one by one. Index tensors and masks, which a step makes
    once for all layers, are made before the first call. Raises `AdvisorError` for inconsistent sizes.
    """
    if not 1 <= q_tokens <= kv_tokens or (phase == "decode" and q_tokens == kv_tokens):
        raise AdvisorError(
            "bad-run", f"{q_tokens} new tokens cannot {phase} among {kv_tokens} keys, themselves included", exit_code=ExitCode.USAGE
        )
    where = device or torch.device("cpu")
    size = kv_tokens if layout == "contiguous" else block_tokens
    config = CacheConfig(
        blocks=batch * -(-kv_tokens // size), block_tokens=size, sequences=batch, max_tokens=kv_tokens, kv_format=kv_format
    )
    pool = Pool((KvShape(kv_heads, head_dim, head_dim),), config, dtype, where)
    inputs = []
    for _ in range(batch):
        cache = pool.open()
        pool.allocate(cache, kv_tokens)
        cache.tokens = kv_tokens - q_tokens
        inputs.append(SequenceInput(cache, [0] * q_tokens))
    autotuner = Autotuner() if implementation == "flash" else None
    step = AttentionStep(pool, inputs, batch if phase == "decode" else 0, implementation, autotuner=autotuner)
    rows = batch * q_tokens
    draw = torch.Generator(device=where).manual_seed(0)
    query, key, value = (
        torch.randn((1, rows, heads, head_dim), generator=draw, device=where, dtype=torch.float32).to(dtype).transpose(1, 2)
        for heads in (q_heads, kv_heads, kv_heads)
    )
    options = Options(scale=head_dim**-0.5)

    @torch.inference_mode()
    def run() -> None:
        step.attend(0, query, key, value, options)

    with nullcontext() if autotuner is None else autotuner.tuning(inf):
        run()
    return run

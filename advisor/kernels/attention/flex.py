"""Attention through torch's flex_attention: visibility as a block mask, soft caps as a score modification, sinks by the log-sum-exp.

Letters: N sequences, W query tokens of each, L cached tokens, H query heads, K key-value heads, D key width, E value width, Q query blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from advisor.kernels.torch_private import recompile_limit

QUERY_BLOCK = 128
KEY_BLOCK = 128
"""Keys of a block that flex_attention computes or skips as a whole."""

MOST_SHAPES = 256
"""Shapes that one compiled function may have: torch would run further ones uncompiled."""

Sees = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(b, q, position) to whether query q of sequence b attends to the token at that position; all are index tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMask:
    """Visibility for queries at `positions` [N, W]: all tokens up to their own, except those outside the window or evicted."""

    positions: Tensor
    window: int | None = None
    evicted: tuple[Tensor, int] | None = None
    """The last evicted position [N, W or 1] and the first one: both and those between them are masked."""

    def sees(self) -> Sees:
        """As a function of indices. It closes over tensors, not numbers, so that one compiled kernel serves every step."""
        positions, window = self.positions, self.window
        last, begin = self.evicted if self.evicted is not None else (None, 0)
        evicted = None if last is None else last.expand_as(positions).contiguous()

        def sees(b: Tensor, q: Tensor, position: Tensor) -> Tensor:
            seen = position <= positions[b, q]
            if window is not None:
                seen = seen & (position > positions[b, q] - window)
            return seen if evicted is None else seen & ((position < begin) | (position > evicted[b, q]))

        return sees

    def blocks(self, size: int, most: int) -> tuple[Tensor, Tensor]:
        """Blocks of `size` tokens that each block of `QUERY_BLOCK` queries attends to: their number [N, Q] and indices [N, Q, `most`]."""
        starts = torch.arange(0, self.positions.shape[1], QUERY_BLOCK, device=self.positions.device)
        ends = (starts + QUERY_BLOCK - 1).clamp_(max=self.positions.shape[1] - 1)
        stop = self.positions[:, ends] // size + 1
        first = torch.zeros_like(stop)
        if self.window is not None:
            first = (self.positions[:, starts] - self.window + 1).clamp_(min=0) // size
        which = first.unsqueeze(-1) + torch.arange(most, device=first.device)
        return stop - first, which.clamp_(max=most - 1)


def over_rows(visibility: AttentionMask, keys: int) -> BlockMask:
    """The block mask for contiguous keys [N, K, L, D], L = `keys`."""
    count, which = visibility.blocks(KEY_BLOCK, -(-keys // KEY_BLOCK))
    sees = visibility.sees()

    def mask(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        return sees(b, q, kv)

    return _mask(count.unsqueeze(1), which.unsqueeze(1), KEY_BLOCK, mask, (visibility.positions.shape[1], keys))


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: BlockMask,
    *,
    scale: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    run: Callable[..., Any] = flex_attention,
) -> Tensor:
    """Attend with `query` [N, W, H, D] to `keys` [N, K, L, D] and `values` [N, K, L, E] under `mask`; returns [N, W, H, E].

    `run` is `flex_attention`, compiled or not. `sinks` [H] are learned logits: the output is scaled by sigmoid(lse − sink).
    """
    change = None if softcap is None else _capped(torch.tensor(softcap, dtype=torch.float32, device=query.device))
    options: dict[str, Any] = {"score_mod": change, "block_mask": mask, "scale": scale, "enable_gqa": keys.shape[1] != query.shape[2]}
    if sinks is None:
        out: Tensor = run(query.transpose(1, 2), keys, values, **options)
        return out.transpose(1, 2)
    out, auxiliary = run(query.transpose(1, 2), keys, values, **options, return_aux=AuxRequest(lse=True))
    share = torch.sigmoid(auxiliary.lse - sinks.float().view(1, -1, 1)).unsqueeze(-1)
    return (out * share.to(out.dtype)).transpose(1, 2)


@cache
def compiled(device: str) -> Callable[..., Any]:
    """flex_attention compiled for a type of device; on a CPU once per shape, as dynamic shapes do not compile there in torch 2.13."""
    kernel: Callable[..., Any] = torch.compile(flex_attention, dynamic=device == "cuda")

    def run(*tensors: Tensor, **options: Any) -> Any:
        with recompile_limit(MOST_SHAPES):
            return kernel(*tensors, **options)

    return run


def _capped(cap: Tensor) -> Callable[..., Tensor]:
    def change(score: Tensor, b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        return torch.tanh(score / cap) * cap

    return change


def _mask(count: Tensor, which: Tensor, size: int, sees: Callable[..., Tensor], lengths: tuple[int, int]) -> BlockMask:
    return BlockMask.from_kv_blocks(
        count.to(torch.int32).contiguous(),
        which.to(torch.int32).contiguous(),
        BLOCK_SIZE=(QUERY_BLOCK, size),
        mask_mod=sees,
        seq_lengths=lengths,
        compute_q_blocks=False,
    )

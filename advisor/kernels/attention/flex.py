"""Attention through torch's flex_attention: what queries see as a mask over blocks, soft caps as a change of scores, sinks by the sums.

Letters: N sequences, W query tokens of each, L cached tokens, H query heads, K key-value heads, D and E widths; P blocks of a pool,
S tokens of a block, B blocks of a sequence.
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
"""What flex skips by; a cache in blocks is skipped by its own."""

MOST_SHAPES = 256
"""Beyond so many, torch would run the others without a kernel."""

Sees = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Whether query q of sequence b sees the token at a place, all three as index tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMask:
    """What queries at `positions` [N, W] see: all up to themselves, less what a window or an eviction hides."""

    positions: Tensor
    window: int | None = None
    forgotten: tuple[Tensor, int] | None = None
    """The last place [N, W or 1] that is seen no more, and where such places begin."""

    def sees(self) -> Sees:
        """As a function of indices. What it holds are tensors, so that a compiled kernel serves every step."""
        positions, window = self.positions, self.window
        last, begin = self.forgotten if self.forgotten is not None else (None, 0)
        gone = None if last is None else last.expand_as(positions).contiguous()

        def sees(b: Tensor, q: Tensor, place: Tensor) -> Tensor:
            seen = place <= positions[b, q]
            if window is not None:
                seen = seen & (place > positions[b, q] - window)
            return seen if gone is None else seen & ((place < begin) | (place > gone[b, q]))

        return sees

    def blocks(self, size: int, most: int) -> tuple[Tensor, Tensor]:
        """Blocks of `size` tokens that each run of `QUERY_BLOCK` queries looks at: how many [N, Q] and which [N, Q, `most`]."""
        starts = torch.arange(0, self.positions.shape[1], QUERY_BLOCK, device=self.positions.device)
        ends = (starts + QUERY_BLOCK - 1).clamp_(max=self.positions.shape[1] - 1)
        stop = self.positions[:, ends] // size + 1
        first = torch.zeros_like(stop)
        if self.window is not None:
            first = (self.positions[:, starts] - self.window + 1).clamp_(min=0) // size
        which = first.unsqueeze(-1) + torch.arange(most, device=first.device)
        return stop - first, which.clamp_(max=most - 1)


def over_rows(sight: AttentionMask, keys: int) -> BlockMask:
    """The mask for contiguous keys [N, K, L, D], `keys` of them."""
    count, which = sight.blocks(KEY_BLOCK, -(-keys // KEY_BLOCK))
    sees = sight.sees()

    def mask(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        return sees(b, q, kv)

    return _mask(count.unsqueeze(1), which.unsqueeze(1), KEY_BLOCK, mask, (sight.positions.shape[1], keys))


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
    """Attend with `query` [N, W, H, D] over keys and values as the mask has them; returns [N, W, H, E].

    `run` is `flex_attention`, compiled or not. `sinks` [H] take their share by the sum of all weights, which `run` must give back.
    """
    change = None if softcap is None else _capped(torch.tensor(softcap, dtype=torch.float32, device=query.device))
    asked: dict[str, Any] = {"score_mod": change, "block_mask": mask, "scale": scale, "enable_gqa": keys.shape[1] != query.shape[2]}
    if sinks is None:
        out: Tensor = run(query.transpose(1, 2), keys, values, **asked)
        return out.transpose(1, 2)
    out, beside = run(query.transpose(1, 2), keys, values, **asked, return_aux=AuxRequest(lse=True))
    kept = torch.sigmoid(beside.lse - sinks.float().view(1, -1, 1)).unsqueeze(-1)
    return (out * kept.to(out.dtype)).transpose(1, 2)


@cache
def compiled(device: str) -> Callable[..., Any]:
    """flex_attention as a fused kernel. On a CPU shapes must be fixed: its kernels for any shape do not compile in torch 2.13."""
    kernel: Callable[..., Any] = torch.compile(flex_attention, dynamic=device == "cuda")

    def run(*tensors: Tensor, **asked: Any) -> Any:
        with recompile_limit(MOST_SHAPES):
            return kernel(*tensors, **asked)

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

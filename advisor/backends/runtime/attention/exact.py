"""The exact implementations of one attention call, and which of them support it. Knows tensors, no cache and no model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from advisor.backends.runtime.cache.store import KvBatch
from advisor.kernels.attention import paged_attention as kernel
from advisor.kernels.attention.flex import KEY_BLOCK, AttentionMask, attend, compiled, over_rows
from advisor.kernels.launch_sizes import power_of_two

DEVICE_KERNELS = {
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
}
"""SDPA's own backends on a CUDA device; without a named one, SDPA takes the first that supports the call."""
LEAST_QUERIES = 2
"""Least queries of a compiled call: torch 2.13 does not compile a single one over 512 keys or more where no block is fully visible."""
SHORTEST_CHUNK = 64
"""Least tokens of a prompt chunk that a kernel of fixed shape is compiled for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Attention of queries [N, W, H, D] over the cached tokens of N sequences."""

    query: Tensor
    cached: tuple[KvBatch, KvBatch]
    """Keys and values: L tokens of each sequence."""
    mask: Callable[[], Tensor]
    """Makes the additive mask of `widen_mask`."""
    bounds: Callable[[], AttentionMask] | None
    """Makes the same mask as positions and bounds; `None` for block patterns, which they do not express."""
    most: int
    """Most sequences of a decoding call, for which kernels of fixed shape are compiled; 0 for a chunk of one prompt."""
    is_causal: bool
    """Whether it is a whole prompt with a causal mask and nothing else masked."""
    scale: float
    softcap: float | None = None
    sinks: Tensor | None = None
    rerotated: Tensor | None = None
    """Re-rotated queries for the `first` tokens."""
    first: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether SDPA supports it: no soft cap, no sinks, no re-rotated queries."""
        return self.softcap is None and self.sinks is None and self.rerotated is None


Implementation = Callable[[Call], Tensor]
"""Computes a call; returns [N, W, H, E]."""


def eager(call: Call) -> Tensor:
    """Eager attention: two batched products with the scores in memory between them; supports every call."""
    keys, values = call.cached
    return kernel.eager_attention(
        call.query,
        keys.rows,
        values.rows,
        call.mask(),
        scale=call.scale,
        softcap=call.softcap,
        sinks=call.sinks,
        key_scales=keys.scales,
        value_scales=values.scales,
        first_query=call.rerotated,
        first=call.first,
    )


def sdpa(call: Call) -> Tensor:
    """torch's fused kernel; supports plain calls."""
    keys, values = (batch.scaled() for batch in call.cached)
    if not call.is_causal:
        return kernel.sdpa_attention(call.query, keys, values, call.mask(), scale=call.scale)
    width = call.query.shape[1]
    return kernel.sdpa_attention(call.query, keys[:, :, :width], values[:, :, :width], None, scale=call.scale)


def flex(call: Call, kernel: Callable[..., Any] | None = None) -> Tensor:
    """torch's flex_attention as `kernel`, by default compiled; supports the calls that `can_flex` accepts."""
    assert call.bounds is not None, "can_flex was checked before"
    device = call.query.device.type
    query, (keys, values), bounds = call.query, (batch.scaled() for batch in call.cached), call.bounds()
    if device != "cuda":
        query, keys, values, bounds = _padded_call(query, keys, values, bounds, call.most)
    mask = over_rows(bounds, keys.shape[2])
    out = attend(query, keys, values, mask, scale=call.scale, softcap=call.softcap, sinks=call.sinks, run=kernel or compiled(device))
    return out[: call.query.shape[0], : call.query.shape[1]]


def can_flex(call: Call) -> bool:
    """Whether flex_attention supports the call: on a CPU it returns no log-sum-exp, which sinks need, and nowhere re-rotated queries."""
    return call.rerotated is None and call.bounds is not None and (call.sinks is None or call.query.device.type == "cuda")


def implementations(call: Call) -> Mapping[str, Implementation]:
    """Every implementation that supports the call on its device, by name; the first is used where none was measured."""
    available: dict[str, Implementation] = {"sdpa": sdpa, "eager": eager} if call.is_plain else {"eager": eager}
    if call.query.device.type != "cuda":
        return available
    if call.is_plain:
        available |= {name: _with_sdpa_backend(backend) for name, backend in DEVICE_KERNELS.items()}
    return available | ({"flex": flex} if can_flex(call) else {})


def _with_sdpa_backend(backend: SDPBackend) -> Implementation:
    """SDPA with one of its backends. The result raises `RuntimeError` for a call that the backend does not support."""

    def run(call: Call) -> Tensor:
        with sdpa_kernel(backend):
            return sdpa(call)

    return run


def _padded_call(
    query: Tensor, keys: Tensor, values: Tensor, bounds: AttentionMask, most: int
) -> tuple[Tensor, Tensor, Tensor, AttentionMask]:
    """The same with lengths rounded up to powers of two and `most` sequences: a compiled kernel of fixed shape serves many steps.

    Padding is cut off afterwards. Added queries repeat the last position, which bounds the visible keys; added sequences have position 0.
    """
    sequences, width = max(most, query.shape[0]), power_of_two(query.shape[1])
    width = max(width, LEAST_QUERIES if most else SHORTEST_CHUNK)
    length = max(power_of_two(keys.shape[2]), KEY_BLOCK)
    more, wider = sequences - query.shape[0], width - query.shape[1]
    query = functional.pad(query, (0, 0, 0, 0, 0, wider, 0, more))
    keys, values = (functional.pad(rows, (0, 0, 0, length - rows.shape[2], 0, 0, 0, more)) for rows in (keys, values))
    evicted = bounds.evicted
    if evicted is not None:
        last = evicted[0].expand_as(bounds.positions)
        evicted = functional.pad(last, (0, wider, 0, more), value=-1), evicted[1]
    positions = torch.cat([bounds.positions, bounds.positions[:, -1:].expand(-1, wider)], dim=1)
    return query, keys, values, replace(bounds, positions=functional.pad(positions, (0, 0, 0, more)), evicted=evicted)

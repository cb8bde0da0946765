"""Block-sparse attention in plain torch: the reference, and the CPU form, which visits only the listed blocks.

Letters: N sequences, T queries at the end of L keys, H query heads, K key-value heads, D width.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from advisor.kernels.arguments import Given
from advisor.kernels.attention import paged_attention
from advisor.kernels.attention.block_pattern import BlockPattern, block_lists


def block_sparse_reference(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    pattern: BlockPattern,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attend under the pattern's token-level mask with all scores in memory; exact for a float64 query.

    `query` is [N, T, H, D], the last T positions of `keys` and `values` [N, L, K, D]; `scale` is D^-0.5 by default; `softcap` bounds the
    scores to ± that value; `sinks` [H] are learned logits that take part in the softmax without a value. Returns [N, T, H, D].
    """
    length, groups = keys.shape[1], query.shape[2] // keys.shape[2]
    wide = torch.promote_types(query.dtype, torch.float32)
    spread = [tensor.to(wide).repeat_interleave(groups, 2) for tensor in (keys, values)]
    positions = torch.arange(length, device=query.device)
    seen = pattern.allows(positions[length - query.shape[1] :, None], positions[None])
    scores = torch.einsum("nthd,nlhd->nhtl", query.to(wide), spread[0]) * default_scale(query, scale)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~seen, -torch.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks.to(wide).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)], -1)
    weights = scores.softmax(-1)[..., :length]
    return torch.einsum("nhtl,nlhd->nthd", weights, spread[1]).to(query.dtype)


def attend_on_cpu(
    query: Tensor, keys: Tensor, values: Tensor, pattern: BlockPattern, scale: float, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """`block_sparse_reference` one query block at a time: gather the keys it visits, a slice where they are contiguous, and attend."""
    by_head = (keys.transpose(1, 2), values.transpose(1, 2))
    plain = softcap is None and sinks is None
    if pattern.is_dense and plain and query.shape[1] == keys.shape[1]:
        return paged_attention.sdpa_attention(query, *by_head, None, scale=scale)
    out = torch.empty_like(query)
    for rows, selected, mask in _steps(pattern, query.shape[1], keys.shape[1], query.dtype):
        key, value = (_take(tensor, selected) for tensor in by_head)
        if plain:
            out[:, rows] = _fused(query[:, rows], key, value, mask, scale)
            continue
        widened = paged_attention.widen_mask(mask.unsqueeze(0), query.shape[2] // keys.shape[2])
        out[:, rows] = paged_attention.eager_attention(query[:, rows], key, value, widened, scale=scale, softcap=softcap, sinks=sinks)
    return out


def _take(tensor: Tensor, selected: slice | Tensor) -> Tensor:
    return tensor[:, :, selected] if isinstance(selected, slice) else tensor.index_select(2, selected)


def _fused(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    """SDPA of [N, T, H, D] on [N, K, L, D] with one mask [T, L]; the heads of a group share their keys by a stride of zero."""
    sequences, width, heads, size = query.shape
    kv_heads = keys.shape[1]
    grouped = query.view(sequences, width, kv_heads, -1, size).permute(0, 2, 3, 1, 4).flatten(0, 1)
    key, value = (tensor.flatten(0, 1).unsqueeze(1).expand(-1, heads // kv_heads, -1, -1) for tensor in (keys, values))
    out = functional.scaled_dot_product_attention(grouped, key, value, attn_mask=mask[None, None], scale=scale)
    return out.view(sequences, kv_heads, heads // kv_heads, width, size).permute(0, 3, 1, 2, 4).reshape(query.shape)


@lru_cache(maxsize=2)
def _steps(pattern: BlockPattern, queries: int, keys: int, dtype: torch.dtype) -> list[tuple[slice, slice | Tensor, Tensor]]:
    """For each query block its rows, the keys it visits and the additive mask between them; cached for the layers of a model."""
    lists, size, first = block_lists(pattern, queries, keys), pattern.block, keys - queries
    steps: list[tuple[slice, slice | Tensor, Tensor]] = []
    for row in range(lists.full.numel()):
        low = (lists.first_block + row) * size
        rows = torch.arange(max(low, first), min(low + size, keys))
        blocks = lists.blocks[int(lists.starts[row]) : int(lists.starts[row + 1])].long().sort().values
        selected = (blocks.unsqueeze(1) * size + torch.arange(size)).flatten()
        selected = selected[selected < keys]
        masked = ~pattern.allows(rows.unsqueeze(1), selected.unsqueeze(0))
        mask = torch.zeros(masked.shape, dtype=dtype).masked_fill_(masked, torch.finfo(dtype).min)
        start, stop = int(selected[0]), int(selected[-1]) + 1
        taken = slice(start, stop) if stop - start == len(selected) else selected
        steps.append((slice(int(rows[0]) - first, int(rows[-1]) + 1 - first), taken, mask))
    return steps


def default_scale(query: Tensor, scale: float | None) -> float:
    """`scale`, or D^-0.5 for `None`."""
    return float(query.shape[-1] ** -0.5) if scale is None else scale


def check(query: Tensor, keys: Tensor, values: Tensor, sinks: Tensor | None) -> None:
    """Raise `ValueError` for shapes, types or devices that do not fit together."""
    given = Given({"query": query, "keys": keys, "values": values, "sinks": sinks})
    if query.dim() != 4 or keys.dim() != 4 or keys.shape != values.shape or query.shape[::3] != keys.shape[::3]:
        raise ValueError(f"block_sparse_attention takes query [N, T, H, D] and keys and values [N, L, K, D]; got {given}")
    if not keys.shape[2] or query.shape[2] % keys.shape[2] or query.shape[1] > keys.shape[1]:
        raise ValueError(f"block_sparse_attention takes H a multiple of K and T up to L; got {given}")
    if not query.is_floating_point() or len({(tensor.dtype, tensor.device) for tensor in (query, keys, values)}) > 1:
        raise ValueError(f"block_sparse_attention takes floating tensors of one type and device; got {given}")
    if sinks is not None and (sinks.shape != query.shape[2:3] or sinks.device != query.device):
        raise ValueError(f"block_sparse_attention takes sinks [H] on the query's device; got {given}")

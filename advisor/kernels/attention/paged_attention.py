"""Attention over a paged cache in plain torch: a reference, and batched forms in a few large products.

Letters: N sequences of a group, W query tokens of each, T tokens of a step, L cached tokens, H query heads, K key-value heads,
G = H / K, D key width, E value width, P blocks of the pool, S tokens of a block.
"""

import torch
from torch import Tensor
from torch.nn import functional


def reference(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    positions: Tensor,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attend one query token at a time in float64, written as the definition.

    `query` is [T, H, D], `keys` [P, K, S, D], `values` [P, K, S, E]; row t of `tables` [T, B] lists the blocks of its sequence and
    `positions[t]` is its position there. `window`: number of most recent tokens attended to, itself included. Returns [T, H, E].
    """
    heads, kv_heads, block_tokens = query.shape[1], keys.shape[1], keys.shape[2]
    out = query.new_empty((query.shape[0], heads, values.shape[3]))
    for row, position in enumerate(positions.tolist()):
        first = 0 if window is None else max(0, position - window + 1)
        for head in range(heads):
            kv_head = head // (heads // kv_heads)
            seen = [(int(tables[row, at // block_tokens]), at % block_tokens) for at in range(first, position + 1)]
            key = torch.stack([keys[block, kv_head, offset] for block, offset in seen]).double()
            value = torch.stack([values[block, kv_head, offset] for block, offset in seen]).double()
            scores = key @ query[row, head].double() * scale
            if softcap is not None:
                scores = torch.tanh(scores / softcap) * softcap
            if sinks is not None:
                scores = torch.cat([scores, sinks[head].double().reshape(1)])
            out[row, head] = (torch.softmax(scores, 0)[: len(seen)] @ value).to(out.dtype)
    return out


def additive_mask(
    positions: Tensor, length: int, dtype: torch.dtype, window: int | None = None, evicted: tuple[Tensor, int] | None = None
) -> Tensor:
    """[N, W, L]: zero where a query at `positions` [N, W] attends to one of `length` keys, the type's lowest number elsewhere.

    `evicted` is the last evicted position [N, W or 1] and the first one: both and those between them are masked.
    """
    key_positions = torch.arange(length, device=positions.device)
    masked = key_positions > positions.unsqueeze(-1)
    if window is not None:
        masked |= key_positions <= (positions - window).unsqueeze(-1)
    if evicted is not None:
        last, first = evicted
        masked |= (key_positions <= last.unsqueeze(-1)) & (key_positions >= first)
    mask = torch.zeros(masked.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(masked, torch.finfo(dtype).min)


def widen_mask(mask: Tensor, groups: int) -> Tensor:
    """The mask [N, W, L] for query rows of `pack`: [N, 1, W·G, L], which broadcasts over the K heads."""
    sequences, width, length = mask.shape
    if groups == 1 or width == 1:
        return mask.unsqueeze(1)
    return mask.unsqueeze(2).expand(sequences, width, groups, length).reshape(sequences, 1, width * groups, length)


def pack(query: Tensor, kv_heads: int) -> Tensor:
    """Put the query heads that share a key-value head side by side: [N, W, H, D] to [N, K, W·G, D]; a view when W is 1."""
    sequences, width, heads, size = query.shape
    grouped = query.reshape(sequences, width, kv_heads, heads // kv_heads, size)
    return grouped.transpose(1, 2).reshape(sequences, kv_heads, width * (heads // kv_heads), size)


def unpack(out: Tensor, width: int) -> Tensor:
    """The inverse of `pack` on the output: [N, K, W·G, E] to [N, W, H, E]."""
    sequences, kv_heads, rows, size = out.shape
    groups = rows // width
    return out.reshape(sequences, kv_heads, width, groups, size).transpose(1, 2).reshape(sequences, width, kv_heads * groups, size)


def eager_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    first_query: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Attention with the scores in memory and the softmax in float32, as transformers' eager attention, for sequences of equal W.

    `query` [N, W, H, D]; contiguous `keys` [N, K, L, D] and `values` [N, K, L, E], times `key_scales` and `value_scales` [N, K, L];
    `mask` from `widen_mask`; the `first` keys are scored against `first_query` [N, W, H, D] if given. Returns [N, W, H, E].

    The products are batched over flat contiguous operands, as other strides take a CPU ten times as long.
    """
    sequences, kv_heads, length, size = keys.shape
    width = query.shape[1]
    packed = pack(query, kv_heads)
    rows = packed.shape[2]
    flat_keys = keys.reshape(sequences * kv_heads, length, size).transpose(1, 2)
    scores = torch.bmm(packed.reshape(sequences * kv_heads, rows, size), flat_keys).view(sequences, kv_heads, rows, length)
    if first_query is not None:
        early = pack(first_query, kv_heads).reshape(sequences * kv_heads, rows, size)
        scores[..., :first] = torch.bmm(early, flat_keys[..., :first]).view(sequences, kv_heads, rows, -1)
    scores = scores.mul_(scale) if key_scales is None else scores.mul_(key_scales.mul(scale).unsqueeze(2))
    if softcap is not None:
        scores = torch.tanh(scores / softcap).mul_(softcap)
    weights = _softmax(scores.add_(mask), sinks, width)
    if value_scales is not None:
        weights = weights.mul_(value_scales.unsqueeze(2))
    out = torch.bmm(weights.view(sequences * kv_heads, rows, length), values.reshape(sequences * kv_heads, length, -1))
    return unpack(out.view(sequences, kv_heads, rows, -1), width)


def sdpa_attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float) -> Tensor:
    """`eager_attention` through `scaled_dot_product_attention`; a mask of `None` is causal and requires as many queries as keys."""
    width, heads = query.shape[1], query.shape[2]
    kv_heads = keys.shape[1]
    if mask is None:
        spread = heads != kv_heads
        out = functional.scaled_dot_product_attention(
            query.transpose(1, 2), keys, values, is_causal=width > 1, scale=scale, enable_gqa=spread
        )
        return out.transpose(1, 2)
    packed = pack(query, kv_heads)
    shape = (*packed.shape[:3], keys.shape[2])
    out = functional.scaled_dot_product_attention(packed, keys, values, attn_mask=mask.expand(shape), scale=scale)
    return unpack(out, width)


def _softmax(scores: Tensor, sinks: Tensor | None, width: int) -> Tensor:
    """Softmax of [N, K, W·G, L] in float32, with one extra logit per query head where the model has sinks."""
    if sinks is None:
        return torch.softmax(scores, -1, dtype=torch.float32).to(scores.dtype)
    sequences, kv_heads, rows, _ = scores.shape
    per_row = sinks.view(kv_heads, 1, rows // width).expand(kv_heads, width, rows // width).reshape(1, kv_heads, rows, 1)
    extended = torch.cat([scores, per_row.expand(sequences, kv_heads, rows, 1).to(scores.dtype)], -1)
    return torch.softmax(extended, -1, dtype=torch.float32)[..., :-1].to(scores.dtype).contiguous()

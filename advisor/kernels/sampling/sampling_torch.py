"""Drawing tokens in plain torch: the definition with the noise of the Triton form, and a form for CPUs that seldom sorts.

Letters: R rows, V tokens of the vocabulary. Scores are logits over temperature.
"""

import torch
from torch import Tensor

from advisor.kernels.arguments import Given

HELD = 512
"""Most scores that the Triton form holds at once, and that the CPU form looks at before it sorts."""
LANES = 1024
"""Columns that take the same one of the four numbers of a Philox call."""
_MASK = 0xFFFFFFFF


def survivors(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [R, V] and which of them may be drawn: the k highest and their equals, of these all that have `min_p` of the highest's
    probability, of these the likeliest up to and including the one that reaches `top_p`, and its equals.

    A top-k of 0 or of V and more, a top-p of 1 and a min-p of 0 leave all; a temperature of 0 leaves the first of the highest.
    """
    scores = _scores(logits, temperature)
    ordered = scores.sort(-1, descending=True).values
    rank = torch.arange(scores.shape[1], device=scores.device)
    kept = (rank < _ranks(top_k, scores.shape[1]).unsqueeze(1)) | (ordered == ordered.gather(1, _last(top_k, scores.shape[1])))
    weights = (ordered - ordered[:, :1]).exp()
    kept &= weights >= min_p.unsqueeze(1)
    weights = weights * kept
    before = weights.cumsum(-1) - weights
    cut = (before >= top_p.unsqueeze(1) * weights.sum(-1, keepdim=True)) & (top_p < 1).unsqueeze(1) & (rank > 0)
    lowest = ordered.masked_fill(cut | ~kept, torch.inf).amin(-1, keepdim=True)
    greedy = torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.argmax(-1, keepdim=True), value=True)
    return scores, torch.where((temperature > 0).unsqueeze(1), scores >= lowest, greedy)


def sample_reference(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seed: Tensor, offset: Tensor
) -> Tensor:
    """One token for each row of `logits` [R, V]: the survivor whose score plus Gumbel noise is highest. Returns int64 [R].

    `temperature`, `top_p`, `min_p` are float [R], `top_k` integer [R], `seed` and `offset` int64, both [1] or both [R].
    """
    scores, kept = survivors(logits, temperature, top_k, top_p, min_p)
    column = torch.arange(scores.shape[1], device=scores.device).unsqueeze(0)
    counter = column // (4 * LANES) * LANES + column % LANES
    bits = torch.stack(philox(seed.unsqueeze(1), counter, _streams(scores, offset).unsqueeze(1), offset.unsqueeze(1)))
    chosen = bits.gather(0, (column // LANES % 4).expand_as(bits[0]).unsqueeze(0))[0]
    exponential = -torch.log1p(-_uniform(chosen))
    return (scores - exponential.log()).masked_fill(~kept, -torch.inf).argmax(-1)


def sample_on_cpu(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seed: Tensor, offset: Tensor) -> Tensor:
    """Draws from the same distribution by one uniform number for each row, from the same seed and offset."""
    greedy, best = temperature <= 0, logits.argmax(-1)
    if bool(greedy.all()):
        return best
    scores = _scores(logits, temperature)
    weights = (scores - scores.amax(-1, keepdim=True)).exp_().masked_fill_(scores < _thresholds(scores, top_k, top_p, min_p), 0.0)
    reached = weights.double().cumsum(-1)
    uniform = _uniform(philox(seed, torch.zeros_like(offset), _streams(scores, offset), offset)[0])
    drawn = torch.searchsorted(reached, (uniform * reached[:, -1]).unsqueeze(1), right=True).squeeze(1)
    return torch.where(greedy, best, drawn)


def check(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seed: Tensor, offset: Tensor) -> None:
    """Raise `ValueError` for shapes, types or devices that do not go together."""
    of_rows = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    given = Given({"logits": logits, **of_rows, "seed": seed, "offset": offset})
    everything = (logits, *of_rows.values(), seed, offset)
    if logits.dim() != 2 or not logits.is_floating_point() or not 0 < logits.shape[1] < 2**30:
        raise ValueError(f"sample takes floating logits [R, V]; got {given}")
    if any(each.device != logits.device or not each.is_contiguous() for each in everything[1:]):
        raise ValueError(f"sample takes contiguous tensors of one device; got {given}")
    if any(each.shape != logits.shape[:1] for each in of_rows.values()):
        raise ValueError(f"sample takes temperature, top_k, top_p and min_p [R]; got {given}")
    if top_k.dtype != torch.int32 or any(each.dtype != torch.float32 for each in (temperature, top_p, min_p)):
        raise ValueError(f"sample takes int32 top_k and float32 temperature, top_p and min_p; got {given}")
    if seed.dtype != torch.int64 or offset.dtype != torch.int64 or seed.shape != offset.shape or seed.shape not in ((1,), logits.shape[:1]):
        raise ValueError(f"sample takes int64 seed and offset, both [1] or both [R]; got {given}")


def _thresholds(scores: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """The lowest score [R, 1] that may be drawn; the whole vocabulary is sorted only where its nucleus exceeds HELD tokens."""
    vocabulary = scores.shape[1]
    ranks = _ranks(top_k, vocabulary)
    limited = ranks < vocabulary
    lowest = scores.amax(-1) + min_p.log()
    if not bool((limited | (top_p < 1)).any()):
        return lowest.unsqueeze(1)
    most = int(ranks.masked_fill(~limited, 1).max())
    free = bool(((top_p < 1) & ~limited).any())
    top = scores.topk(min(vocabulary, max(most, HELD) if free else most), -1).values
    kth = top.gather(1, ranks.clamp_max(top.shape[1]).unsqueeze(1) - 1).squeeze(1)
    lowest = torch.where(limited, torch.maximum(kth, lowest), lowest)
    if not bool((top_p < 1).any()):
        return lowest.unsqueeze(1)
    mass = (scores - scores.amax(-1, keepdim=True)).exp_().masked_fill_(scores < lowest.unsqueeze(1), 0.0).sum(-1)
    reached = _nucleus(top, lowest, top_p, mass)
    short = (top_p < 1) & (reached == -torch.inf) & ~limited
    if bool(short.any()):
        reached[short] = _nucleus(scores[short].sort(-1, descending=True).values, lowest[short], top_p[short], mass[short])
    return torch.maximum(lowest, reached).unsqueeze(1)


def _nucleus(ordered: Tensor, lowest: Tensor, top_p: Tensor, mass: Tensor) -> Tensor:
    """The score that reaches the share `top_p` of `mass` in descending scores [R, n]; −inf where none does or none is asked."""
    weights = (ordered - ordered[:, :1]).exp().masked_fill(ordered < lowest.unsqueeze(1), 0.0)
    reached = weights.cumsum(-1) >= (top_p * mass).unsqueeze(1)
    first = reached.int().argmax(-1, keepdim=True)
    asked = reached.any(-1) & (top_p < 1)
    return torch.where(asked, ordered.gather(1, first).squeeze(1), -torch.inf)


def _scores(logits: Tensor, temperature: Tensor) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide / torch.where(temperature > 0, temperature, 1.0).unsqueeze(1)


def _ranks(top_k: Tensor, vocabulary: int) -> Tensor:
    """How many tokens top-k leaves: int64 [R]."""
    return torch.where((top_k <= 0) | (top_k > vocabulary), vocabulary, top_k).long()


def _last(top_k: Tensor, vocabulary: int) -> Tensor:
    return _ranks(top_k, vocabulary).unsqueeze(1) - 1


def _uniform(bits: Tensor) -> Tensor:
    """Numbers inside (0, 1) of the upper 31 of 32 bits."""
    return ((bits >> 1).double() + 0.5) * 2.0**-31


def _streams(scores: Tensor, offset: Tensor) -> Tensor:
    """Which stream of a shared seed and offset each row [R] draws from; rows with their own need none."""
    rows = torch.arange(scores.shape[0], device=scores.device)
    return rows if offset.numel() == 1 else torch.zeros_like(rows)


def philox(seed: Tensor, counter: Tensor, stream: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four blocks of 32 random bits, as `tl.philox(seed, counter, stream, low half of offset, high half)` gives them.

    Integers that broadcast. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", Philox-4x32-10.
    """
    none = 0 * (seed + counter + stream + offset)
    c0, c1, c2, c3 = counter + none, stream + none, (offset & _MASK) + none, (offset >> 32 & _MASK) + none
    k0, k1 = seed & _MASK, seed >> 32 & _MASK
    for _ in range(10):
        left, right = c2 * 0xCD9E8D57, c0 * 0xD2511F53
        c0, c2 = (left >> 32 & _MASK) ^ c1 ^ k0, (right >> 32 & _MASK) ^ c3 ^ k1
        c1, c3 = left & _MASK, right & _MASK
        k0, k1 = k0 + 0x9E3779B9 & _MASK, k1 + 0xBB67AE85 & _MASK
    return c0, c1, c2, c3

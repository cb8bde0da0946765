"""Drawing tokens in plain torch: the definition with the noise of the Triton form, and a form for CPUs that seldom sorts.

Letters: R rows, V tokens of the vocabulary. Scores are logits over temperature.
"""

import torch
from torch import Tensor

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

    `temperature`, `top_p`, `min_p` are float [R], `top_k` integer [R], `seed` and `offset` int64 of one element: an offset draws once.
    """
    scores, kept = survivors(logits, temperature, top_k, top_p, min_p)
    row, column = torch.arange(scores.shape[0]).unsqueeze(1), torch.arange(scores.shape[1]).unsqueeze(0)
    counter = column // (4 * LANES) * LANES + column % LANES
    bits = torch.stack(philox(int(seed), counter, row, int(offset)))
    chosen = bits.gather(0, (column // LANES % 4).expand_as(bits[0]).unsqueeze(0))[0]
    exponential = -torch.log1p(-_uniform(chosen))
    return (scores - exponential.log().to(scores.device)).masked_fill(~kept, -torch.inf).argmax(-1)


def sample_on_cpu(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seed: Tensor, offset: Tensor) -> Tensor:
    """Draws from the same distribution by one uniform number for each row, from the same seed and offset."""
    greedy, best = temperature <= 0, logits.argmax(-1)
    if bool(greedy.all()):
        return best
    scores = _scores(logits, temperature)
    weights = (scores - scores.amax(-1, keepdim=True)).exp_().masked_fill_(scores < _thresholds(scores, top_k, top_p, min_p), 0.0)
    reached = weights.double().cumsum(-1)
    uniform = _uniform(philox(int(seed), torch.zeros(1, dtype=torch.int64), torch.arange(logits.shape[0]), int(offset))[0])
    drawn = torch.searchsorted(reached, (uniform * reached[:, -1]).unsqueeze(1), right=True).squeeze(1)
    return torch.where(greedy, best, drawn)


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


def philox(seed: int, counter: Tensor, row: Tensor, offset: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four blocks of 32 random bits, as `tl.philox(seed, counter, row, low half of offset, high half)` gives them.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", Philox-4x32-10.
    """
    c0, c1 = counter + 0 * row, row + 0 * counter
    c2, c3 = torch.full_like(c0, offset & _MASK), torch.full_like(c0, offset >> 32 & _MASK)
    k0, k1 = seed & _MASK, seed >> 32 & _MASK
    for _ in range(10):
        left, right = c2 * 0xCD9E8D57, c0 * 0xD2511F53
        c0, c2 = (left >> 32 & _MASK) ^ c1 ^ k0, (right >> 32 & _MASK) ^ c3 ^ k1
        c1, c3 = left & _MASK, right & _MASK
        k0, k1 = k0 + 0x9E3779B9 & _MASK, k1 + 0xBB67AE85 & _MASK
    return c0, c1, c2, c3

"""From logits to tokens: greedy, or drawn with temperature, top-k, top-p and min-p.

A sampled token depends only on the seed, the sequence and the position: not on the batch, on preemption, on drafts or on graphs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen; temperature 0 is greedy."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    """Smallest set of most likely tokens whose probability reaches this."""
    min_p: float | None = None
    """Least probability of a token, relative to the likeliest one."""
    seed: int = 0

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0.0


GREEDY = Sampling()
_ODD = 0x1E3779B97F4A7C15
"""SplitMix64's increment, 2^64 over the golden ratio, without its top bit, so that it fits an int64."""


class Sampler:
    """Chooses tokens on the device of the logits, without waiting for it."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling

    def choose(self, logits: Tensor, sequences: Tensor, positions: Tensor) -> Tensor:
        """A token for each row of logits [R, V], of the sequences with numbers `sequences` [R], at `positions` [R]."""
        if self.sampling.is_greedy:
            return logits.argmax(-1)
        reached = self.probabilities(logits).cumsum(-1, dtype=torch.float64)
        drawn = uniform(self.sampling.seed, sequences, positions).unsqueeze(1) * reached[:, -1:]
        return torch.searchsorted(reached, drawn, right=True).squeeze(1).clamp_(max=logits.shape[-1] - 1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution [R, V] that tokens are drawn from, in float32."""
        scores = logits.float() / self.sampling.temperature
        if self.sampling.top_k is not None and self.sampling.top_k < scores.shape[-1]:
            lowest = scores.topk(self.sampling.top_k, -1).values[:, -1:]
            scores = scores.masked_fill(scores < lowest, float("-inf"))
        chances = scores.softmax(-1)
        if self.sampling.min_p is not None:
            chances = chances.masked_fill(chances < self.sampling.min_p * chances.amax(-1, keepdim=True), 0.0)
        if self.sampling.top_p is not None:
            chances = _nucleus(chances, self.sampling.top_p)
        return chances / chances.sum(-1, keepdim=True)


def uniform(seed: int, sequences: Tensor, positions: Tensor) -> Tensor:
    """Pseudo-random numbers in [0, 1), float64 [R]: SplitMix64 of the three arguments (Steele, Lea, Flood, OOPSLA 2014)."""
    mixed = _mixed(sequences * _ODD + (seed * _ODD + 1) % 2**63)
    mixed = _mixed(mixed + positions * _ODD)
    return _shifted(mixed, 11).double() * 2.0**-53


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shifted(x, 27)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _nucleus(chances: Tensor, top_p: float) -> Tensor:
    """Keep the likeliest tokens up to and including the one that reaches `top_p`."""
    ordered, positions = chances.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill(before >= top_p * chances.sum(-1, keepdim=True), 0.0)
    return torch.zeros_like(chances).scatter(-1, positions, ordered)

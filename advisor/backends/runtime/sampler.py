"""From logits to tokens: greedy, or drawn with temperature, top-k, top-p and min-p."""

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
    """Tokens at least so likely as this share of the likeliest."""
    seed: int = 0

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0.0


GREEDY = Sampling()


class Sampler:
    """Draws tokens with its own random stream, so that a run repeats."""

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self.sampling = sampling
        self._stream = torch.Generator(device=device).manual_seed(sampling.seed)

    def pick(self, logits: Tensor) -> list[int]:
        """One token for each row of [R, V]."""
        if self.sampling.is_greedy:
            return [int(token) for token in logits.argmax(-1).tolist()]
        drawn = torch.multinomial(self.probabilities(logits), 1, generator=self._stream)
        return [int(token) for token in drawn.squeeze(1).tolist()]

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


def _nucleus(chances: Tensor, top_p: float) -> Tensor:
    """Keep the likeliest tokens up to and including the one that reaches `top_p`."""
    ordered, places = chances.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill(before >= top_p * chances.sum(-1, keepdim=True), 0.0)
    return torch.zeros_like(chances).scatter(-1, places, ordered)

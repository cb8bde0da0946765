"""Drawing tokens from logits with top-k and top-p, beside torch's way: sort the vocabulary, cut, draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from advisor.kernels.sampling.sampling import sample
from benchmarks.cases.shapes import VOCABULARIES
from benchmarks.harness.case import Bench, Case, Measured
from benchmarks.harness.parts import KERNELS
from benchmarks.harness.record import Work
from benchmarks.harness.timing import Candidate, interleaved, sets_for

TEMPERATURE, TOP_K, TOP_P = 0.8, 50, 0.95


def sampling_cases(shapes: Sequence[tuple[int, int]] = VOCABULARIES, *, seconds: float = 5.0) -> list[Case]:
    """A case for each number of sequences and size of vocabulary."""
    return [
        Case(part=KERNELS, name=f"sampling/{rows}x{tokens}", seconds=seconds, needs=("sampling",), run=partial(time_sampling, rows, tokens))
        for rows, tokens in shapes
    ]


@dataclass(frozen=True, slots=True)
class Options:
    """The same choice for every row, on the device."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seed: Tensor
    offset: Tensor

    @classmethod
    def of(cls, rows: int, device: torch.device) -> "Options":
        """For so many rows."""
        temperature, top_p, min_p = (torch.full((rows,), value, device=device) for value in (TEMPERATURE, TOP_P, 0.0))
        top_k = torch.full((rows,), TOP_K, dtype=torch.int32, device=device)
        seed, offset = (torch.tensor([value], device=device) for value in (7, 0))
        return cls(temperature, top_k, top_p, min_p, seed, offset)


def time_sampling(rows: int, tokens: int, bench: Bench) -> Measured:
    """Ours, and torch's sort with the cut of both."""
    moved = 2 * rows * tokens
    sets = sets_for(moved, bench.device)
    logits = [torch.randn(rows, tokens, device=bench.device).mul_(3).to(torch.bfloat16) for _ in range(sets)]
    options = Options.of(rows, bench.device)
    candidates = [
        Candidate("advisor", [partial(our_sample, given, options) for given in logits]),
        Candidate("torch-sort", [partial(sorted_sample, given) for given in logits]),
    ]
    with torch.inference_mode():
        timings = interleaved(candidates, bench.device, bench.samples)
    return Measured(
        settings={"rows": rows, "vocabulary": tokens, "top_k": TOP_K, "top_p": TOP_P, "sets": sets},
        work={candidate.name: Work(bytes=moved) for candidate in candidates},
        timings=timings,
    )


def our_sample(logits: Tensor, options: Options) -> Tensor:
    """One token for each row, as the runtime draws it."""
    return sample(logits, options.temperature, options.top_k, options.top_p, options.min_p, options.seed, options.offset)


def sorted_sample(logits: Tensor) -> Tensor:
    """One token for each row [R, V]: the highest `TOP_K`, of these the likeliest that make up `TOP_P`, by a full sort."""
    ordered, places = torch.sort(logits.float() / TEMPERATURE, dim=-1, descending=True)
    ordered[:, TOP_K:] = -torch.inf
    shares = torch.softmax(ordered, -1)
    shares = shares.masked_fill(shares.cumsum(-1) - shares > TOP_P, 0.0)
    return places.gather(1, torch.multinomial(shares, 1)).squeeze(1)

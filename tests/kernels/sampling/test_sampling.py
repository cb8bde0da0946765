"""Sampling: the survivors are those of the runtime's sampler, tokens fall with their probabilities, offsets draw anew."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from advisor.backends.runtime.sampler import Sampler, Sampling
from advisor.kernels.sampling import sampling, sampling_torch

FILTERS: tuple[tuple[float, int, float, float], ...] = (
    (1.0, 0, 1.0, 0.0),
    (0.7, 5, 1.0, 0.0),
    (2.0, 100, 1.0, 0.0),
    (1.3, 0, 0.9, 0.0),
    (0.1, 0, 0.5, 0.0),
    (5.0, 0, 0.99, 0.0),
    (0.8, 0, 1.0, 0.05),
    (0.6, 20, 0.8, 0.01),
    (3.0, 150, 0.95, 0.001),
    (1.0, 1, 0.3, 0.9),
)
"""(temperature, top-k, top-p, min-p), a row each."""
VOCABULARY = 401


def rows(filters: tuple[tuple[float, int, float, float], ...], seed: int = 7, offset: int = 3) -> tuple[Tensor, ...]:
    temperature, top_p, min_p = (torch.tensor([row[at] for row in filters], dtype=torch.float32) for at in (0, 2, 3))
    return (
        temperature,
        torch.tensor([row[1] for row in filters], dtype=torch.int32),
        top_p,
        min_p,
        torch.tensor([seed]),
        torch.tensor([offset]),
    )


def logits(count: int, dtype: torch.dtype = torch.float32, vocabulary: int = VOCABULARY) -> Tensor:
    return (torch.randn(count, vocabulary, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)


def drawable(row: Tensor, temperature: float, top_k: int, top_p: float, min_p: float) -> Tensor:
    chosen = Sampling(temperature=temperature, top_k=top_k or None, top_p=top_p if top_p < 1 else None, min_p=min_p or None)
    return Sampler(chosen).probabilities(row.unsqueeze(0))[0]


def test_survivors_are_those_of_the_sampler() -> None:
    given = logits(len(FILTERS))
    _, kept = sampling_torch.survivors(given, *rows(FILTERS)[:4])
    for row, filters in enumerate(FILTERS):
        assert torch.equal(kept[row], drawable(given[row], *filters) > 0), f"{filters}: {int(kept[row].sum())} kept"


def test_equal_scores_at_a_threshold_stay_together() -> None:
    given = (logits(len(FILTERS)) * 2).round() / 2
    scores, kept = sampling_torch.survivors(given, *rows(FILTERS)[:4])
    for row, filters in enumerate(FILTERS):
        wanted = drawable(given[row], *filters) > 0
        assert not bool((wanted & ~kept[row]).any())
        assert torch.equal(kept[row], scores[row] >= scores[row][wanted].min())


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("held", [16, 512])
@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_triton_form_finds_the_exact_threshold_and_the_token_of_the_reference(filters: tuple[float, int, float, float], held: int) -> None:
    given, arguments = logits(1), rows((filters,))
    tokens, lowest = sampling.launch_sample(given, *arguments, held=held)
    scores, kept = sampling_torch.survivors(given, *arguments[:4])
    assert torch.equal(scores >= lowest.unsqueeze(1), kept), f"{int((scores >= lowest).sum())} survive, wanted {int(kept.sum())}"
    assert torch.equal(tokens, sampling_torch.sample_reference(given, *arguments))


@pytest.mark.parametrize("held", [16, 64])
def test_triton_form_keeps_equal_scores_together(held: int) -> None:
    given = (logits(4) * 2).round() / 2
    given[3] = 1.25
    arguments = rows(((1.0, 7, 1.0, 0.0), (1.0, 0, 0.7, 0.0), (1.0, 40, 0.9, 0.0), (1.0, 5, 0.5, 0.0)))
    tokens, lowest = sampling.launch_sample(given, *arguments, held=held)
    scores, kept = sampling_torch.survivors(given, *arguments[:4])
    assert torch.equal(scores >= lowest.unsqueeze(1), kept)
    assert torch.equal(tokens, sampling_torch.sample_reference(given, *arguments))


def test_tokens_of_no_chance_are_never_drawn() -> None:
    given = torch.full((3, 70), -torch.inf)
    given[:, 60] = 0.0
    arguments = rows(((1.0, 0, 1.0, 0.0), (0.0, 0, 1.0, 0.0), (1.0, 9, 0.9, 0.1)))
    assert sampling.launch_sample(given, *arguments, held=16)[0].tolist() == [60] * 3
    assert sampling.sample(given, *arguments).tolist() == [60] * 3


def test_greedy_takes_the_first_of_the_highest() -> None:
    given = logits(1, vocabulary=9000).repeat(3, 1).bfloat16()
    given[0, [700, 8500]] = 50.0
    given[1, [4099, 5]] = 50.0
    arguments = rows(((0.0, 0, 1.0, 0.0), (0.0, 3, 0.5, 0.1), (0.0, 0, 1.0, 0.0)))
    best = given.argmax(-1)
    assert torch.equal(sampling.launch_sample(given, *arguments, held=16)[0], best)
    assert torch.equal(sampling.sample(given, *arguments), best)


def test_cpu_thresholds_are_those_of_the_survivors() -> None:
    for given in (logits(len(FILTERS)), logits(len(FILTERS), torch.bfloat16), logits(len(FILTERS), vocabulary=3000)):
        arguments = rows(FILTERS)[:4]
        scores, kept = sampling_torch.survivors(given, *arguments)
        assert torch.equal(scores >= sampling_torch._thresholds(scores, *arguments[1:]), kept)


@pytest.mark.parametrize("form", [sampling.sample, sampling_torch.sample_reference], ids=["cpu", "reference"])
@pytest.mark.parametrize("filters", [FILTERS[index] for index in (0, 2, 3, 7)], ids=str)
def test_tokens_fall_with_their_probabilities(form: Callable[..., Tensor], filters: tuple[float, int, float, float]) -> None:
    draws = 20000
    row = logits(1, vocabulary=60)
    tokens = form(row.expand(draws, 60), *rows((filters,) * draws))
    chances = drawable(row[0], *filters)
    counts, alive = torch.bincount(tokens, minlength=60), chances > 0
    assert int(counts[~alive].sum()) == 0
    expected = chances[alive] * draws
    likely = expected >= 5
    statistic = float(((counts[alive] - expected) ** 2 / expected)[likely].sum())
    # chi-square has the mean n and the deviation sqrt(2n); the draws are fixed
    freedom = int(likely.sum())
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5, f"chi-square {statistic:.1f} of {freedom}"


def test_an_offset_and_a_seed_draw_anew_and_the_same_ones_repeat() -> None:
    given, filters = logits(64), (FILTERS[0],) * 64
    for form in (sampling.sample, sampling_torch.sample_reference):
        first = form(given, *rows(filters))
        assert torch.equal(first, form(given, *rows(filters)))
        for other in (rows(filters, offset=4), rows(filters, offset=3 + 2**40), rows(filters, seed=8), rows(filters, seed=7 + 2**40)):
            # two draws of one row agree by chance with the sum of squared probabilities, about 1 in 15 here
            assert int((first == form(given, *other)).sum()) < 20


def test_noise_is_the_philox_of_triton() -> None:
    given = torch.zeros(2, 5000)
    for seed, offset in ((0, 0), (2**63 - 1, 2**62 + 12345), (-5, 1)):
        arguments = rows((FILTERS[0],) * 2, seed=seed, offset=offset)
        assert torch.equal(sampling.launch_sample(given, *arguments)[0], sampling_torch.sample_reference(given, *arguments))


def test_a_row_with_its_own_seed_and_offset_draws_the_same_in_any_batch() -> None:
    given, order = logits(5), torch.tensor([3, 1, 4])
    own = (*rows(FILTERS[:5])[:4], torch.tensor([5, 5, 6, 7, 8]), torch.tensor([1, 2, 2, 2**33, 0]))

    def triton(*each: Tensor) -> Tensor:
        return sampling.launch_sample(*each, held=64)[0]

    forms: tuple[Callable[..., Tensor], ...] = (sampling.sample, sampling_torch.sample_reference, triton)
    for form in forms:
        whole = form(given, *own)
        assert torch.equal(form(given[order], *(each[order] for each in own)), whole[order])
        assert torch.equal(form(given[:1], *(each[:1] for each in own)), whole[:1])
    assert torch.equal(triton(given, *own), sampling_torch.sample_reference(given, *own))


def test_philox_gives_the_published_numbers() -> None:
    zero = torch.zeros(1, dtype=torch.int64)
    # known answers of the authors' Random123: Philox-4x32-10, counter and key zero
    assert [int(part) for part in sampling_torch.philox(zero, zero, zero, zero)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_it_says_what_it_got() -> None:
    given, arguments = logits(2), rows(FILTERS[:2])
    for at, wrong in (
        (0, arguments[0].double()),
        (1, arguments[1].long()),
        (2, arguments[2][:1]),
        (4, arguments[4].int()),
        (5, arguments[4].expand(2)),
    ):
        changed = [*arguments[:at], wrong, *arguments[at + 1 :]]
        with pytest.raises(ValueError, match=r"got logits \(2, 401\)"):
            sampling.sample(given, *changed)
    with pytest.raises(ValueError, match="floating logits"):
        sampling.sample(given[0], *arguments)

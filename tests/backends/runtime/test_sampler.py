"""Sampling keeps to its distribution, and speculation under sampling does not change it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from advisor.backends.model.loaded_model import LoadedModel
from tests.backends.sessions import with_settings

if TYPE_CHECKING:
    import torch

    from advisor.backends.runtime.sampler import Sampling


def five_logits() -> torch.Tensor:
    import torch

    return torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0]])


def choose(sampling: Sampling, logits: torch.Tensor) -> list[int]:
    import torch

    from advisor.backends.runtime.sampler import Sampler

    numbers = torch.arange(len(logits))
    return Sampler(sampling).choose(logits, numbers, numbers * 0).tolist()


def chances(**settings: Any) -> list[float]:
    from advisor.backends.runtime.sampler import Sampler, Sampling

    sampler = Sampler(Sampling(**{"temperature": 1.0, **settings}))
    return [round(chance, 4) for chance in sampler.probabilities(five_logits())[0].tolist()]


def test_greedy_takes_the_likeliest() -> None:
    import torch

    from advisor.backends.runtime.sampler import GREEDY

    assert choose(GREEDY, torch.tensor([[0.1, 3.0, 2.0], [5.0, 0.0, 1.0]])) == [1, 0]


def test_temperature_divides_the_logits() -> None:
    assert chances(temperature=2.0) == [round(chance, 4) for chance in (five_logits() / 2).softmax(-1)[0].tolist()]


def test_top_k_keeps_k_tokens() -> None:
    assert [chance > 0 for chance in chances(top_k=2)] == [True, True, False, False, False]
    assert chances(top_k=9) == chances()


def test_top_p_keeps_the_likeliest_up_to_the_one_that_reaches_p() -> None:
    plain = chances()
    assert plain[0] < 0.6 < plain[0] + plain[1]
    assert [chance > 0 for chance in chances(top_p=0.6)] == [True, True, False, False, False]
    assert [chance > 0 for chance in chances(top_p=0.01)] == [True, False, False, False, False]
    assert chances(top_p=1.0) == plain


def test_min_p_drops_tokens_below_a_share_of_the_likeliest() -> None:
    plain = chances()
    share = (plain[2] / plain[0] + plain[3] / plain[0]) / 2
    assert [chance > 0 for chance in chances(min_p=share)] == [True, True, True, False, False]


def test_what_is_left_sums_to_one() -> None:
    assert abs(sum(chances(top_k=4, top_p=0.8, min_p=0.1)) - 1) < 1e-3


def test_the_same_seed_draws_the_same_tokens() -> None:
    from advisor.backends.runtime.sampler import Sampling

    rows = five_logits().expand(50, -1)
    draws = [choose(Sampling(temperature=1.0, seed=seed), rows) for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]


def test_a_draw_depends_on_seed_sequence_and_place_alone() -> None:
    import torch

    from advisor.backends.runtime.sampler import Sampler, Sampling

    sampler, logits = Sampler(Sampling(temperature=1.3, top_p=0.9, seed=5)), torch.randn(40, 30)
    sequences, positions = torch.arange(40) // 4, torch.arange(40) % 4
    order = torch.randperm(40)
    together = sampler.choose(logits, sequences, positions)
    assert torch.equal(sampler.choose(logits[order], sequences[order], positions[order]), together[order])
    assert torch.equal(sampler.choose(logits[7:8], sequences[7:8], positions[7:8]), together[7:8])


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63 - 1, -5])
def test_uniform_numbers_fill_the_unit_interval_and_do_not_follow_their_neighbours(seed: int) -> None:
    import torch

    from advisor.backends.runtime.sampler import uniform

    for sequences, positions in ((torch.arange(20000), torch.zeros(20000).long()), (torch.full((20000,), 3), torch.arange(20000))):
        drawn = uniform(seed, sequences, positions)
        assert drawn.min() >= 0
        assert drawn.max() < 1
        counts = torch.histc(drawn.float(), 20, 0, 1)
        assert ((counts - 1000).square() / 1000).sum() < 50, "chi-square of 19 degrees of freedom; beyond 50 once in ten thousand"
        assert torch.corrcoef(torch.stack([drawn[1:], drawn[:-1]]))[0, 1].abs() < 0.03


def test_draws_follow_the_probabilities() -> None:
    import torch

    from advisor.backends.runtime.sampler import Sampler, Sampling

    sampler = Sampler(Sampling(temperature=0.8, top_k=4, seed=9))
    drawn = Counter(sampler.choose(five_logits().expand(20000, -1), torch.arange(20000), torch.full((20000,), 17)).tolist())
    for token, chance in enumerate(sampler.probabilities(five_logits())[0].tolist()):
        assert abs(drawn[token] / 20000 - chance) < 0.015
    assert drawn[4] == 0, "top-k leaves it no chance"


def test_speculation_keeps_the_distribution_of_sampling(llama: Any, draft: Any, open_session: Callable[..., LoadedModel]) -> None:
    """Second tokens of many two-token-and-more outputs: with and without drafts, the frequencies agree with the model's own."""
    import torch

    from advisor.backends.runtime.engine import GenerationRequest, serve
    from advisor.backends.runtime.sampler import Sampling

    prompt, count = (5, 6, 7, 5, 6, 7, 5), 600
    jobs = [GenerationRequest(prompt, 3)] * count
    session = open_session(llama, max_sequences=250, max_tokens=10, batching="continuous", token_budget=4096)
    sampling = Sampling(temperature=1.5, top_k=2, seed=11)
    with torch.inference_mode():
        exact = _distribution_of_second_tokens(llama, prompt, sampling)
    for decoding in (
        {},
        {"decoding": "prompt-lookup", "draft_tokens": 2},
        {"decoding": "draft", "draft_tokens": 2, "draft_model": draft},
        {"decoding": "draft", "draft_tokens": 2, "draft_model": llama},
    ):
        outcome = serve(with_settings(session, **decoding), jobs, concurrency=None, sampling=sampling)
        seen = Counter(done.tokens[1] for done in outcome.finished)
        distance = sum(abs(seen[token] / count - chance) for token, chance in enumerate(exact)) / 2
        assert distance < 0.07, f"{decoding.get('decoding', 'plain')}: total variation {distance:.3f}"
        if decoding.get("draft_model") is llama:
            assert 0 < outcome.accepted < outcome.proposed, "greedy drafts of the model itself are taken at times, not always"


def _distribution_of_second_tokens(model: Any, prompt: tuple[int, ...], sampling: Sampling) -> list[float]:
    import torch

    from advisor.backends.runtime.sampler import Sampler

    sampler = Sampler(sampling)
    first = sampler.probabilities(model(torch.tensor([prompt])).logits[:, -1])[0]
    total = torch.zeros_like(first)
    for token, chance in enumerate(first.tolist()):
        if chance > 0:
            total += chance * sampler.probabilities(model(torch.tensor([[*prompt, token]])).logits[:, -1])[0]
    return [float(chance) for chance in total]

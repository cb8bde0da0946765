"""Prompt lookup proposes what followed the same tokens before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.errors import AdvisorError


def propose(tokens: list[int], count: int) -> list[int]:
    from advisor.backends.runtime.scheduler import ScheduledChunk, Sequence
    from advisor.backends.runtime.speculate import PromptLookup

    sequence = Sequence(index=0, tokens=tokens, prompt_tokens=len(tokens), output_tokens=99, submitted_s=0.0)
    return PromptLookup().propose([ScheduledChunk(sequence, 1, count)])[0]


def test_the_longest_match_wins_over_a_later_shorter_one() -> None:
    assert propose([1, 2, 3, 50, 51, 9, 3, 60, 1, 2, 3], 2) == [50, 51]


def test_the_latest_of_equal_matches_wins() -> None:
    assert propose([4, 5, 10, 4, 5, 20, 21, 4, 5], 2) == [20, 21]


def test_a_match_near_the_end_continues_as_a_repetition() -> None:
    assert propose([9, 1, 2, 1, 2], 5) == [1, 2, 1, 2, 1]
    assert propose([9, 7, 7], 3) == [7, 7, 7]


def test_nothing_is_proposed_without_a_match() -> None:
    assert propose([1, 2, 3, 4], 3) == []
    assert propose([1], 3) == []


def test_new_tokens_are_found_as_they_come() -> None:
    from advisor.backends.runtime.scheduler import ScheduledChunk, Sequence
    from advisor.backends.runtime.speculate import PromptLookup

    lookup = PromptLookup()
    sequence = Sequence(index=0, tokens=[1, 2, 3], prompt_tokens=3, output_tokens=99, submitted_s=0.0)
    assert lookup.propose([ScheduledChunk(sequence, 1, 2)]) == [[]]
    sequence.tokens += [8, 3]
    assert lookup.propose([ScheduledChunk(sequence, 1, 2)]) == [[8, 3]]
    lookup.retain([])
    assert lookup._seen == {}


def test_a_draft_of_another_vocabulary_is_refused(
    llama: Any, build_model: Callable[..., Any], open_session: Callable[..., LoadedModel]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    other = build_model("llama", vocab_size=48)
    with pytest.raises(AdvisorError, match="48 tokens and the model 64"):
        serve(open_session(llama, decoding="draft", draft_tokens=2, draft_model=other), [GenerationRequest((1,), 2)], concurrency=None)


def test_the_draft_cache_is_counted(llama: Any, draft: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    jobs = [GenerationRequest((3, 4, 5), 6)]
    plain = serve(open_session(llama), jobs, concurrency=None).kv_bytes
    drafted = serve(open_session(llama, decoding="draft", draft_tokens=2, draft_model=draft), jobs, concurrency=None).kv_bytes
    assert drafted - plain == 4 * 80 * 1 * 2 * 2 * 8 * 4, "slots x tokens x layers x (keys, values) x heads x width x bytes"

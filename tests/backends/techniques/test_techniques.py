"""The contract of every technique, written once; the cases live with the techniques."""

import dataclasses
import re

import pytest

from advisor.backends.deployment import Decoding, Deployment, baseline
from advisor.backends.technique import Case, Technique, explanation
from advisor.backends.techniques import TECHNIQUES, by_name, options_of
from advisor.profiles.errors import AdvisorError
from advisor.profiles.evidence import load_evidence
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Request, Workload

CASES = [(kind, case) for kind in TECHNIQUES for case in kind.cases]
SLOT_FIELDS = {
    "DTYPE": "weights",
    "ARCHITECTURE": "attention",
    "WEIGHTS": "weights",
    "ATTENTION": "attention",
    "KV_LAYOUT": "kv",
    "KV_FORMAT": "kv",
    "KV_EVICTION": "kv",
    "KV_REUSE": "kv",
    "DECODING": "decoding",
    "BATCHING": "batching",
}


def question_of(kind: type[Technique], case: Case) -> tuple[Request, Deployment]:
    prompt, output, concurrency = case.workload
    workload = Workload(prompt_tokens=prompt, output_tokens=output, concurrency=concurrency, shared_prefix_tokens=case.shared_prefix_tokens)
    request = Request(workload=workload, require=(kind.name,) if case.required else ())
    deployment = baseline(find_model(case.model), max_sequences=concurrency)
    for name in case.after:
        deployment = by_name(name).sketch(deployment, request)
    return request, deployment


def accepted(kind: type[Technique]) -> tuple[Request, Deployment]:
    return question_of(kind, next(case for case in kind.cases if case.accepted))


@pytest.mark.parametrize(("kind", "case"), CASES, ids=lambda value: getattr(value, "name", None) or getattr(value, "model", ""))
def test_cases_are_accepted_or_refused_with_their_sentence(kind: type[Technique], case: Case) -> None:
    request, deployment = question_of(kind, case)
    sentence = kind().refuse(request, deployment)
    if case.accepted:
        assert sentence is None
    else:
        assert sentence is not None
        assert case.says
        assert case.says in sentence
        assert sentence.endswith(".")


@pytest.mark.parametrize("kind", TECHNIQUES, ids=lambda kind: kind.name)
def test_each_technique_has_an_accepted_and_a_refused_case(kind: type[Technique]) -> None:
    assert {case.accepted for case in kind.cases} == {True, False}


@pytest.mark.parametrize("kind", TECHNIQUES, ids=lambda kind: kind.name)
def test_sketch_changes_only_its_slot(kind: type[Technique]) -> None:
    request, before = accepted(kind)
    after = kind().sketch(before, request)
    changed = {field.name for field in dataclasses.fields(before) if getattr(before, field.name) != getattr(after, field.name)}
    # a cache that is not quantised has the type of the activations
    assert changed - ({"kv"} if kind.slot.name == "DTYPE" else set()) == {SLOT_FIELDS[kind.slot.name]}


@pytest.mark.parametrize("kind", TECHNIQUES, ids=lambda kind: kind.name)
def test_every_variant_sketches_something_else(kind: type[Technique]) -> None:
    request, before = accepted(kind)
    sketched = [variant.sketch(before, request) for variant in kind().variants()]
    assert len(set(sketched)) == len(sketched)


@pytest.mark.parametrize("kind", TECHNIQUES, ids=lambda kind: kind.name)
def test_quality_holds_its_middle_and_names_its_sources(kind: type[Technique]) -> None:
    request, before = accepted(kind)
    effect = kind().quality(kind().sketch(before, request), load_evidence(), request)
    assert effect.low_pct <= effect.loss_pct <= effect.high_pct
    assert effect.loss_pct == 0 or effect.sources


@pytest.mark.parametrize("kind", TECHNIQUES, ids=lambda kind: kind.name)
def test_docstring_says_what_helps_and_hurts_and_where_it_comes_from(kind: type[Technique]) -> None:
    explained = explanation(kind())
    assert explained.does.endswith(".")
    assert len(explained.does) <= 130
    assert explained.helps_when
    assert explained.hurts_when
    assert explained.source


@pytest.mark.parametrize("kind", TECHNIQUES, ids=lambda kind: kind.name)
def test_name_is_the_same_three_ways(kind: type[Technique]) -> None:
    words = kind.name.replace("-", "_")
    assert kind.__module__.endswith(f".{words}")
    assert re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() == words


@pytest.mark.parametrize("kind", TECHNIQUES, ids=lambda kind: kind.name)
def test_what_a_technique_covers_stands_after_it_in_its_slot(kind: type[Technique]) -> None:
    names = [other.name for other in TECHNIQUES[TECHNIQUES.index(kind) + 1 :] if other.slot is kind.slot]
    assert set(kind.covers) <= set(names)


def test_slots_are_in_order_of_application() -> None:
    slots = [kind.slot for kind in TECHNIQUES]
    assert slots == sorted(slots)


@pytest.mark.parametrize("kind", TECHNIQUES, ids=lambda kind: kind.name)
def test_options_round_trip(kind: type[Technique]) -> None:
    for variant in kind().variants():
        assert by_name(kind.name, options_of(variant)) == variant


def test_unknown_names_and_options_are_refused_by_name() -> None:
    with pytest.raises(AdvisorError, match="unknown technique `weights-int5`"):
        by_name("weights-int5")
    with pytest.raises(AdvisorError, match="does not take `group: 64`"):
        by_name("weights-int4", {"group": 64})
    with pytest.raises(AdvisorError, match="does not take"):
        by_name("weights-int4", {"group_size": "64"})


@pytest.mark.parametrize("kind", TECHNIQUES, ids=lambda kind: kind.name)
def test_a_technique_changes_the_same_record_on_paper_and_for_real(kind: type[Technique]) -> None:
    assert kind.slot.record == SLOT_FIELDS[kind.slot.name]
    if "change" not in vars(kind) or kind.slot.record == "weights":
        assert "apply" in vars(kind), "what no record describes is applied by the technique itself"
    else:
        request, before = accepted(kind)
        changed = kind().change(getattr(before, kind.slot.record))
        sketched = getattr(kind().sketch(before, request), kind.slot.record)
        if isinstance(sketched, Decoding):  # the expected acceptance is a prediction: a loaded model has none
            sketched = dataclasses.replace(sketched, acceptance=0.0, acceptance_spread=(0.0, 0.0))
        assert sketched == changed

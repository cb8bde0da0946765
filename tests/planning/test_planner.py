"""Plans of `tests/plans/*.yaml`: a question each, and what must be true of the answer."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from advisor.backends.techniques import TECHNIQUES
from advisor.estimate.uncertainty.probability import probability_of_meeting
from advisor.planning.advice import LIKELY, Advice, Status, TechniqueState
from advisor.planning.question import PlanQuestion
from advisor.planning.ranking import columns_of, evaluate, frontier
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.request import Limits
from advisor.quantities.limits import METRIC_OF
from advisor.service import plan
from tests.paths import ROOT

LLAMA_8B = "meta-llama/Meta-Llama-3.1-8B"
PLANS = sorted((ROOT / "tests/planning/plans").glob("*.yaml"))


@pytest.fixture(scope="module", params=PLANS, ids=lambda path: path.stem)
def answered(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Advice]:
    expected = yaml.safe_load(request.param.read_text(encoding="utf-8"))
    question = dict(expected["question"])
    limits = Limits(**question.pop("limits", {}))
    return expected, plan(PlanQuestion(**question, limits=limits, profile="none", offline=True))


def test_fits_as_expected(answered: tuple[dict[str, Any], Advice]) -> None:
    expected, advice = answered
    assert (advice.chosen.status is not Status.INFEASIBLE) == expected["fits"], advice.chosen.violations
    assert (advice.binding is None) == expected["fits"]
    assert (advice.feasible > 0) == expected["fits"]


def test_chosen_and_absent_techniques(answered: tuple[dict[str, Any], Advice]) -> None:
    expected, advice = answered
    assert set(expected.get("chosen", [])) <= set(advice.chosen.names)
    assert not set(expected.get("absent", [])) & set(advice.chosen.names)


def test_binding_limit_and_relaxations(answered: tuple[dict[str, Any], Advice]) -> None:
    expected, advice = answered
    if "binding" in expected:
        assert advice.binding is not None
        assert advice.binding.limit == expected["binding"]
    assert set(expected.get("relax", [])) <= {relaxation.limit for relaxation in advice.relaxations}


def test_at_the_likely_limit_its_plan_meets_it_with_90_percent(answered: tuple[dict[str, Any], Advice]) -> None:
    for relaxation in answered[1].relaxations:
        if relaxation.likely is None:
            continue
        shown = METRIC_OF[relaxation.limit]
        assert (relaxation.likely < relaxation.needed) == shown.higher_is_better
        value = getattr(relaxation.candidate.metrics, shown.name)
        assert probability_of_meeting(value, relaxation.likely, higher_is_better=shown.higher_is_better) >= LIKELY - 1e-9


def test_every_technique_has_a_reason_with_a_number_or_a_fact(answered: tuple[dict[str, Any], Advice]) -> None:
    expected, advice = answered
    reasons = {reason.technique: reason for reason in advice.reasons}
    assert len(reasons) == len(TECHNIQUES)
    for name, reason in reasons.items():
        assert (reason.state is TechniqueState.CHOSEN) == (name in advice.chosen.names)
        assert reason.why.endswith(".")
    for name, words in expected.get("why", {}).items():
        assert words in reasons[name].why, reasons[name].why
    for name in expected.get("not_applicable", []):
        assert reasons[name].state is TechniqueState.NOT_APPLICABLE, reasons[name]


def test_the_chosen_plan_is_first_and_no_plan_dominates_a_better_one(answered: tuple[dict[str, Any], Advice]) -> None:
    _, advice = answered
    assert advice.ranked[0].id == advice.chosen.id
    assert len({candidate.id for candidate in advice.ranked}) == len(advice.ranked)
    assert [c.id for c in frontier(advice.ranked)] == [c.id for c in advice.ranked]


def test_a_relaxed_limit_admits_a_plan() -> None:
    question = PlanQuestion(
        model="meta-llama/Meta-Llama-3.1-8B",
        hardware="rtx-4090",
        profile="none",
        limits=Limits(tpot_ms_p95=10),
        context_tokens=32768,
        concurrency=16,
        offline=True,
    )
    advice = plan(question)
    needed = {relaxation.limit: int(relaxation.needed) for relaxation in advice.relaxations}
    assert len(needed) >= 2
    relaxed = {
        "context_tokens": lambda number: replace(question, context_tokens=number),
        "concurrency": lambda number: replace(question, concurrency=number),
        "devices": lambda number: replace(question, devices=number),
    }
    for limit in needed.keys() & relaxed.keys():
        assert plan(relaxed[limit](needed[limit])).chosen.status is not Status.INFEASIBLE, (limit, needed[limit])


@pytest.mark.parametrize("limits", [{"quality_loss_pct": 0.0}, {"tpot_ms_p95": 20.0}, {"memory_gib_per_device": 14.0}], ids=str)
def test_plans_that_are_likely_to_meet_the_limits_are_simulated(limits: dict[str, float]) -> None:
    question = PlanQuestion(model="Qwen/Qwen3-8B", hardware="l40s", profile="none", concurrency=8, use_case="summaries", offline=True)
    free, limited = plan(question), plan(replace(question, limits=Limits(**limits)))
    assert limited.chosen.status is not Status.INFEASIBLE
    assert limited.chosen.probability > 0.75
    assert "decode-prompt-lookup" in {*free.chosen.names} & {*limited.chosen.names}, "what the limit does not touch stays"


def test_forbidden_techniques_stay_out_and_required_ones_are_in() -> None:
    question = PlanQuestion(
        model="Qwen/Qwen3-8B",
        hardware="h100-sxm",
        profile="none",
        concurrency=8,
        forbid=("kv-int8",),
        require=("weights-int4",),
        offline=True,
    )
    advice = plan(question)
    assert "weights-int4" in advice.chosen.names
    assert "kv-int8" not in advice.chosen.names
    reasons = {reason.technique: reason.why for reason in advice.reasons}
    assert reasons["kv-int8"] == "Forbidden by the request."


def test_a_technique_that_costs_quality_says_what_its_loss_was_measured_on() -> None:
    question = PlanQuestion(
        model="meta-llama/Meta-Llama-3.1-8B", hardware="rtx-4090", profile="none", concurrency=1, require=("weights-int4",), offline=True
    )
    why = {reason.technique: reason.why for reason in plan(question).reasons}
    assert "Quality metric: perplexity." in why["weights-int4"]
    assert "Quality metric: mmlu." in why["kv-int8"], why["kv-int8"]
    assert "quality loss is one of" not in why["kv-paged"]


def test_a_requirement_that_is_refused_says_by_whom() -> None:
    question = PlanQuestion(model="state-spaces/mamba2-2.7b", hardware="l40s", profile="none", require=("kv-int8",), offline=True)
    with pytest.raises(AdvisorError) as caught:
        plan(question)
    assert caught.value.exit_code is ExitCode.NO_PLAN
    assert any("no softmax attention" in note for note in caught.value.notes)


@pytest.mark.parametrize(
    ("require", "question", "name", "says"),
    [
        (("kv-prefix-reuse",), {"shared_prefix_tokens": 1}, "kv-prefix-reuse", "do not fill a block of 16"),
        (("kv-window", "attention-sliding-window"), {}, "kv-window", "Every layer attends to 1,024 tokens only"),
        (("kv-sinks", "attention-block-sparse"), {}, "kv-sinks", "Under a block-sparse pattern"),
        (("kv-window",), {"forbid": ("kv-paged",)}, "kv-window", "needs kv-paged"),
    ],
)
def test_a_requirement_that_cannot_be_met_names_the_actual_reason(
    require: tuple[str, ...], question: dict[str, Any], name: str, says: str
) -> None:
    base = PlanQuestion(
        model=LLAMA_8B, hardware="h100-sxm", profile="none", require=require, context_tokens=16384, concurrency=4, offline=True
    )
    with pytest.raises(AdvisorError) as caught:
        plan(replace(base, **question))
    assert [note for note in caught.value.notes if note.startswith(f"{name}: ") and says in note] == list(caught.value.notes)


def test_quality_losses_of_weights_and_cache_are_added() -> None:
    base = PlanQuestion(model=LLAMA_8B, hardware="h100-sxm", profile="none", concurrency=4, offline=True)

    def loss(*require: str, forbid: tuple[str, ...]) -> float:
        value = plan(replace(base, require=require, forbid=forbid)).chosen.metrics.quality_loss_pct
        assert value is not None
        return value.value

    formats = ("kv-int8", "kv-fp8", "kv-int4")
    cache = loss("kv-int4", forbid=("weights-int8", "weights-int4"))
    weights = loss("weights-int8", forbid=formats)
    assert min(cache, weights) > 0.1, (cache, weights)
    assert loss("weights-int8", "kv-int4", forbid=()) == pytest.approx(cache + weights)


def test_a_limit_in_a_reason_has_its_unit() -> None:
    base = PlanQuestion(
        model=LLAMA_8B,
        hardware="rtx-4090",
        profile="none",
        require=("kv-int4",),
        context_tokens=32768,
        concurrency=4,
        offline=True,
        kv_pool="longest",
    )
    why = {reason.technique: reason.why for reason in plan(base).reasons}["kv-int4"]
    assert re.match(r"Without it memory would be [\d.]+ GiB, over the usable [\d.]+ GiB of a device; ", why), why


def test_what_another_technique_needs_is_said_to_be_needed() -> None:
    base = PlanQuestion(
        model=LLAMA_8B, hardware="h100-sxm", profile="none", require=("kv-window",), context_tokens=16384, concurrency=4, offline=True
    )
    why = {reason.technique: reason.why for reason in plan(base).reasons}["kv-paged"]
    assert "The plan needs it: eviction frees blocks, and a contiguous cache has none" in why, why


def test_tensor_parallel_splits_a_model_that_does_not_fit_on_a_device() -> None:
    question = PlanQuestion(
        model="meta-llama/Meta-Llama-3.1-70B",
        hardware="h100-sxm",
        profile="none",
        devices=4,
        concurrency=8,
        forbid=("weights-int4",),
        offline=True,
    )
    chosen = plan(question).chosen
    assert chosen.status is not Status.INFEASIBLE
    assert chosen.deployment.parallel.tensor > 1


def test_context_beyond_the_model_is_refused_with_the_bound() -> None:
    with pytest.raises(AdvisorError, match="made for 131072 tokens"):
        plan(PlanQuestion(model="meta-llama/Meta-Llama-3.1-8B", hardware="h100-sxm", profile="none", context_tokens=200_000, offline=True))


def test_profile_of_this_machine_is_refused_for_other_hardware() -> None:
    with pytest.raises(AdvisorError) as caught:
        plan(PlanQuestion(model="Qwen/Qwen3-8B", hardware="h100-sxm", profile="now", offline=True))
    assert caught.value.code == "profile-elsewhere"


def test_the_same_question_has_the_same_answer() -> None:
    question = PlanQuestion(model="Qwen/Qwen3-8B", hardware="l40s", profile="none", concurrency=4, offline=True)
    first, second = plan(question), plan(question)
    assert first.chosen == second.chosen
    assert first.reasons == second.reasons


def test_distance_grows_with_what_is_missed() -> None:
    question = PlanQuestion(
        model="Qwen/Qwen3-8B", hardware="l40s", profile="none", concurrency=4, limits=Limits(tpot_ms_p95=0.5), offline=True
    )
    near, far = plan(question), plan(replace(question, limits=Limits(tpot_ms_p95=0.1)))

    def missed(advice: Advice) -> float:
        columns = columns_of([advice.chosen.metrics], [len(advice.chosen.techniques)])
        return float(evaluate(columns, advice.request, math.inf).violation[0])

    assert 0 < missed(near) < missed(far)
    assert set(METRIC_OF) >= {miss.limit for miss in far.chosen.violations}


@pytest.mark.parametrize("name", ["kv-window", "kv-sinks", "attention-sliding-window"])
def test_a_required_technique_gets_the_longest_window_that_meets_the_limits(name: str) -> None:
    base = PlanQuestion(
        model=LLAMA_8B, hardware="h100-sxm", profile="none", require=(name,), context_tokens=16384, concurrency=4, offline=True
    )
    (technique,) = (item for item in plan(base).chosen.techniques if item.name == name)
    assert getattr(technique, "window") > 4000, technique  # noqa: B009  # the option of four techniques, not of their base


def test_a_change_of_seconds_has_the_unit_of_the_table_of_plans() -> None:
    base = PlanQuestion(
        model=LLAMA_8B,
        hardware="epyc-9654-1s-96c-12ch-ddr5-4800",
        profile="none",
        prompt_tokens=16384,
        context_tokens=32768,
        offline=True,
    )
    units = re.findall(r"TTFT \w+ [\d.]+ -> [\d.]+ (\w+)", " ".join(reason.why for reason in plan(base).reasons))
    assert set(units) == {"s"}

"""Changes that would admit a technique to a plan: each is made, and the planner run again."""

import dataclasses

import pytest

from advisor.backends.techniques import TECHNIQUES
from advisor.planning.advice import Candidate
from advisor.planning.advise import advise, choose
from advisor.planning.candidates import best_of
from advisor.planning.planner import Planner
from advisor.planning.question import PlanQuestion, request_for
from advisor.planning.target import planner_for, resolve_target
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model
from advisor.profiles.request import UNLIMITED, Limits, Request
from advisor.sensitivity.by_load import by_load
from advisor.sensitivity.by_machine import by_machine
from advisor.sensitivity.counterfactual import ChangeKind, CounterfactualOutcome, Scenario, new_violations
from advisor.sensitivity.counterfactuals import by_limits, by_name, by_permission, counterfactuals

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
ROOMY = PlanQuestion(model=LLAMA, hardware="rtx-4090", limits=Limits(ttft_ms_p95=500.0, tpot_ms_p95=30.0), concurrency=4, offline=True)
TIGHT = PlanQuestion(
    model=LLAMA,
    hardware="rtx-4090",
    limits=Limits(tpot_ms_p95=30.0, memory_gib_per_device=12.0, quality_loss_pct=1.0),
    concurrency=8,
    offline=True,
)
KINDS = {kind.name: kind for kind in TECHNIQUES}


@dataclasses.dataclass(frozen=True)
class Planned:
    planner: Planner
    request: Request
    chosen: Candidate

    def case(self, technique: str) -> Scenario:
        return Scenario(self.planner, self.chosen, self.request, KINDS[technique])


def planned(question: PlanQuestion) -> Planned:
    model, engine = find_model(question.model, offline=True), load_engine(question.engine)
    planner = planner_for(model, resolve_target(question.hardware, "none", engine), engine)
    request = request_for(question, model)
    return Planned(planner, request, choose(planner, request))


@pytest.fixture(scope="module")
def roomy() -> Planned:
    return planned(ROOMY)


@pytest.fixture(scope="module")
def tight() -> Planned:
    return planned(TIGHT)


def test_choosing_says_what_advising_says(roomy: Planned) -> None:
    assert roomy.chosen.id == advise(roomy.planner, roomy.request).chosen.id


@pytest.mark.parametrize("technique", ["weights-int4", "kv-int4"])
def test_a_change_that_is_said_to_choose_the_technique_does(roomy: Planned, technique: str) -> None:
    result = counterfactuals(roomy.planner, roomy.chosen, roomy.request, KINDS[technique])
    changes = [change for change in result if change.outcome is CounterfactualOutcome.CHOSEN]
    assert {change.kind for change in changes} >= {ChangeKind.LIMIT, ChangeKind.REQUIRE}
    for change in changes:
        assert technique not in roomy.chosen.names
        assert technique in choose(roomy.planner, change.request).names, change


def test_a_load_under_which_it_is_ahead_ranks_it_before_the_plan(roomy: Planned) -> None:
    change = next(by_load(roomy.case("kv-paged")))
    assert change.outcome is CounterfactualOutcome.AHEAD
    without = roomy.case("kv-paged").without_technique(change.request)
    assert without is not None
    assert "kv-paged" not in without.names
    assert best_of([without, change.candidate], change.request, roomy.planner.budget_gib(change.request)) is change.candidate
    assert getattr(change.request.workload, change.name) == change.after != change.before


def test_a_missed_limit_is_loosened_until_the_technique_meets_it(tight: Planned) -> None:
    change = next(by_limits(tight.case("weights-int4")))
    assert change.name == "quality_loss_pct"
    assert change.before == 1.0
    assert isinstance(change.after, float)
    assert change.after > 1.0
    assert not [miss for miss in change.candidate.violations if miss.limit == "quality_loss_pct"]


def test_no_load_and_no_machine_is_offered_for_a_loss_of_quality(tight: Planned) -> None:
    assert not list(by_load(tight.case("weights-int4")))
    assert not list(by_machine(tight.case("weights-int4")))


def test_what_the_device_lacks_is_no_limit_to_be_moved_but_a_larger_machine() -> None:
    full = planned(dataclasses.replace(ROOMY, limits=UNLIMITED, concurrency=64, kv_pool="longest"))
    case = full.case("kv-int8")
    result = case.with_technique(full.request)
    assert not isinstance(result, str)
    needed = new_violations(case, result)["memory_gib_per_device"]
    assert needed > full.planner.budget_gib(full.request)
    assert not list(by_limits(case))
    changes = {change.name: change for change in by_machine(case)}
    assert load_hardware(str(changes["hardware"].after)).memory_bytes > load_hardware("rtx-4090").memory_bytes
    assert not any(change.candidate.violations for change in changes.values())


def test_a_technique_that_needs_another_is_admitted_with_it(roomy: Planned) -> None:
    assert "kv-paged" not in roomy.chosen.names
    change = next(by_name(roomy.case("kv-window")))
    assert {"kv-window", "kv-paged"} <= set(change.candidate.names)
    assert "kv-window" in choose(roomy.planner, change.request).names


def test_reuse_of_prefixes_asks_for_a_prefix(roomy: Planned) -> None:
    change = next(by_load(roomy.case("kv-prefix-reuse")))
    assert change.name == "shared_prefix_tokens"
    assert change.request.workload.shared_prefix_tokens == change.after == 512
    assert "kv-prefix-reuse" in change.candidate.names


def test_a_forbidden_technique_is_admitted_by_allowing_it(roomy: Planned) -> None:
    best = roomy.chosen.names[0]
    forbidden = planned(dataclasses.replace(ROOMY, forbid=(best,)))
    case = Scenario(forbidden.planner, forbidden.chosen, forbidden.request, KINDS[best])
    (change,) = by_permission(case)
    assert change.outcome is CounterfactualOutcome.CHOSEN
    assert best in choose(forbidden.planner, change.request).names
    assert not list(by_permission(Scenario(roomy.planner, roomy.chosen, roomy.request, KINDS["kv-int4"])))


def test_required_where_it_misses_a_limit_says_so(tight: Planned) -> None:
    (change,) = by_name(Scenario(tight.planner, tight.chosen, tight.request, KINDS["weights-int4"]))
    assert change.outcome is CounterfactualOutcome.MISSES
    assert "quality_loss_pct" in {miss.limit for miss in change.candidate.violations}


def test_a_technique_in_the_plan_has_no_counterfactuals(roomy: Planned) -> None:
    assert not list(counterfactuals(roomy.planner, roomy.chosen, roomy.request, KINDS[roomy.chosen.names[0]]))


def test_a_machine_is_named_on_which_the_technique_is_ahead(roomy: Planned) -> None:
    change = next(by_machine(roomy.case("batching-continuous")))
    assert (change.name, change.before, change.outcome) == ("hardware", "rtx-4090", CounterfactualOutcome.AHEAD)
    there = planned(dataclasses.replace(ROOMY, hardware=str(change.after))).planner
    tried = Scenario(there, roomy.chosen, roomy.request, KINDS["batching-continuous"]).trial(roomy.request)
    assert tried is not None
    assert tried[1] is CounterfactualOutcome.AHEAD
    assert tried[0].metrics == change.candidate.metrics

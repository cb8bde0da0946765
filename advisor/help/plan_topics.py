"""The pages of `advisor explain --plan`: a technique or a limit in one plan, or all its limits. Prices the plan again."""

from collections.abc import Iterator
from dataclasses import dataclass

from advisor.backends.technique import Technique
from advisor.backends.techniques import TECHNIQUES
from advisor.help.topics import Page, explain, limit_named
from advisor.planfile.deployment import deployment_of, techniques_of
from advisor.planfile.file import PlanFile, request_of
from advisor.planning.advice import Candidate, TechniqueState
from advisor.planning.planner import Planner
from advisor.planning.reasons import reason_for
from advisor.planning.search import Stack
from advisor.planning.target import planner_for, resolve_target
from advisor.profiles.engines import load_engine
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Request
from advisor.quantities.limits import MEMORY
from advisor.rendering.text.why import NO_CHANGE_HELPS, change_words, gain_words, slack_words
from advisor.sensitivity.counterfactuals import counterfactuals
from advisor.sensitivity.marginal_gain import first_improving_step, marginal_gain, movable
from advisor.sensitivity.slack import by_limit, limit_slacks


@dataclass(frozen=True, slots=True)
class RepricedPlan:
    """A plan that was read from a file and priced again: its request, its stack, and the planner."""

    planner: Planner
    request: Request
    chosen: Candidate


def reprice(plan: PlanFile) -> RepricedPlan:
    """Price a plan again. Raises `AdvisorError` where its model, hardware or profile is not available."""
    model = find_model(plan.model.path or plan.model.name, offline=True)
    engine = load_engine(plan.apply.engine.name)
    planner = planner_for(model, resolve_target(plan.machine.hardware, plan.machine.profile or "none", engine), engine)
    request = request_of(plan)
    return RepricedPlan(planner, request, planner.simulate(Stack(techniques_of(plan), deployment_of(plan, model)), request))


def explain_in_plan(topic: str | None, plan: PlanFile) -> Page:
    """The page of a technique or a limit with its numbers in the plan; without a topic, every limit of the plan.

    Raises as `explain` and `reprice` do.
    """
    if topic is None:
        return Page(plan.id, "plan", tuple(_all_limits_parts(reprice(plan))))
    page = explain(topic)
    kind = next((kind for kind in TECHNIQUES if kind.name == page.topic), None)
    limit = limit_named(page.topic)
    if kind is not None:
        return Page(page.topic, page.kind, (*page.parts, *_technique_parts(reprice(plan), kind)))
    if limit is not None:
        return Page(page.topic, page.kind, (*page.parts, *_limit_parts(reprice(plan), limit)))
    return page


def _technique_parts(plan: RepricedPlan, kind: type[Technique]) -> Iterator[tuple[str, str]]:
    reason = reason_for(plan.planner, plan.chosen, kind, plan.request)
    yield ("In this plan" if reason.state is TechniqueState.CHOSEN else "Not in this plan"), reason.why
    if reason.state is not TechniqueState.CHOSEN:
        changes = [change_words(change) for change in counterfactuals(plan.planner, plan.chosen, plan.request, kind)]
        yield from (("Admitted by" if index == 0 else "Or by", words) for index, words in enumerate(changes or [NO_CHANGE_HELPS]))


def _limit_parts(plan: RepricedPlan, limit: str) -> Iterator[tuple[str, str]]:
    slacks = by_limit(limit_slacks(plan.chosen, plan.request, plan.planner.budget_gib(plan.request)))
    yield "In this plan", slack_words(slacks[limit]) if limit in slacks else "Not limited."
    yield from _gain_parts(plan, limit)


def _all_limits_parts(plan: RepricedPlan) -> Iterator[tuple[str, str]]:
    for index, slack in enumerate(limit_slacks(plan.chosen, plan.request, plan.planner.budget_gib(plan.request))):
        yield ("The binding limit" if index == 0 else "Next"), slack_words(slack)
    for limit in movable(plan.request):
        yield from _gain_parts(plan, limit)


def _gain_parts(plan: RepricedPlan, limit: str) -> Iterator[tuple[str, str]]:
    """The gain of loosening a limit by one step and, where that is nothing, by the first step with a gain."""
    if limit not in movable(plan.request):
        return
    gain = marginal_gain(plan.planner, plan.chosen, plan.request, limit)
    yield f"One more {'GiB' if limit == MEMORY else 'step'}", gain_words(gain)
    if gain.changes_nothing:
        first = first_improving_step(plan.planner, plan.chosen, plan.request, limit)
        yield "The first step with a gain", gain_words(first) if first else "None up to twice the limit."

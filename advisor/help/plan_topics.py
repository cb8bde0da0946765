"""Pages on one plan: a technique in it or out of it, a limit of it, or the whole. Prices the plan again; starts nothing."""

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
    """A plan that was read from a file: its question, its stack, and the planner that prices it again."""

    planner: Planner
    request: Request
    chosen: Candidate


def reprice(plan: PlanFile) -> RepricedPlan:
    """Price a plan again. Raises `AdvisorError` where its model, hardware or profile is not known here."""
    model = find_model(plan.model.path or plan.model.name, offline=True)
    engine = load_engine(plan.apply.engine.name)
    planner = planner_for(model, resolve_target(plan.machine.hardware, plan.machine.profile or "none", engine), engine)
    request = request_of(plan)
    return RepricedPlan(planner, request, planner.simulate(Stack(techniques_of(plan), deployment_of(plan, model)), request))


def explain_in_plan(topic: str | None, plan: PlanFile) -> Page:
    """The page of a technique or a limit, with what it does in the plan; without a topic, of all limits of the plan.

    Raises as `explain` and `reread` do.
    """
    if topic is None:
        return Page(plan.id, "plan", tuple(_limits(reprice(plan))))
    page = explain(topic)
    kind = next((kind for kind in TECHNIQUES if kind.name == page.topic), None)
    limit = limit_named(page.topic)
    if kind is not None:
        return Page(page.topic, page.kind, (*page.parts, *_technique(reprice(plan), kind)))
    if limit is not None:
        return Page(page.topic, page.kind, (*page.parts, *_limit(reprice(plan), limit)))
    return page


def _technique(read: RepricedPlan, kind: type[Technique]) -> Iterator[tuple[str, str]]:
    reason = reason_for(read.planner, read.chosen, kind, read.request)
    yield ("In this plan" if reason.state is TechniqueState.CHOSEN else "Not in this plan"), reason.why
    if reason.state is not TechniqueState.CHOSEN:
        changes = [change_words(change) for change in counterfactuals(read.planner, read.chosen, read.request, kind)]
        yield from (("Let in by" if place == 0 else "Or by", words) for place, words in enumerate(changes or [NO_CHANGE_HELPS]))


def _limit(read: RepricedPlan, limit: str) -> Iterator[tuple[str, str]]:
    found = by_limit(limit_slacks(read.chosen, read.request, read.planner.budget_gib(read.request)))
    yield "In this plan", slack_words(found[limit]) if limit in found else "Not limited."
    yield from _gains(read, limit)


def _limits(read: RepricedPlan) -> Iterator[tuple[str, str]]:
    for place, standing in enumerate(limit_slacks(read.chosen, read.request, read.planner.budget_gib(read.request))):
        yield ("The binding limit" if place == 0 else "Then"), slack_words(standing)
    for limit in movable(read.request):
        yield from _gains(read, limit)


def _gains(read: RepricedPlan, limit: str) -> Iterator[tuple[str, str]]:
    """The next unit of a limit, and the first step that buys something where that is nothing."""
    if limit not in movable(read.request):
        return
    gain = marginal_gain(read.planner, read.chosen, read.request, limit)
    yield f"The next {'GiB' if limit == MEMORY else 'step'}", gain_words(gain)
    if gain.changes_nothing:
        first = first_improving_step(read.planner, read.chosen, read.request, limit)
        yield "The first that buys something", gain_words(first) if first else "None, up to twice the limit."

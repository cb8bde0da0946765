"""The planner: price every stack, simulate the finalists, rank them, and say what would have to give when nothing fits."""

import hashlib
from collections.abc import Sequence
from copy import copy

from advisor.backends.technique import QualityEffect
from advisor.backends.techniques import options_of
from advisor.estimate.cancellation import checkpoint
from advisor.estimate.estimator import Estimator
from advisor.estimate.serving.times import ServingTimes
from advisor.planning.advice import Advice, Candidate, Status
from advisor.planning.losses import Losses
from advisor.planning.pricing import PricedStacks, StackPricer
from advisor.planning.ranking import FINALISTS, OBJECTIVES, Verdicts, columns_of, evaluate, frontier, order, representatives
from advisor.planning.search import Stack, stacks, why_nothing_is_left
from advisor.planning.violations import status, violations_of
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.evidence import Evidence
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Request, Workload

SHOWN = 8
"""Most plans of the frontier that are shown."""
MOST_PRICED = 4
"""Searches that are remembered: a person goes back and forth between a few workloads."""


class Planner:
    """One model on one machine: prices are kept, so that changed limits only re-rank."""

    def __init__(self, model: ModelSpec, hardware: Hardware, estimator: Estimator, evidence: Evidence, profile: str | None) -> None:
        self.model = model
        self.hardware = hardware
        self.estimator = estimator
        self.evidence = evidence
        self.profile = profile
        self._simulated: dict[tuple[Stack, Workload], tuple[Metrics, ServingTimes]] = {}
        self._priced: dict[tuple[object, ...], PricedStacks] = {}
        self._losses: dict[Workload, Losses] = {}

    def advice_without_reasons(self, request: Request, kept: Sequence[Candidate], judged: Verdicts) -> Advice:
        """An answer of which these plans are kept, best first: without reasons, ways out and a word on its domain."""
        return Advice(
            request=request,
            model=self.model,
            hardware=self.hardware,
            profile=self.profile,
            chosen=kept[0],
            ranked=tuple(kept),
            reasons=(),
            relaxations=(),
            binding=kept[0].worst_miss,
            considered=len(judged.violation),
            feasible=int((~judged.infeasible).sum()),
        )

    def choose(self, request: Request) -> Candidate:
        """The stack that leads the answer to a request, without reasons and alternatives. Raises as `advise` does."""
        return self._ordered([self.candidate(stack, request) for stack in self.finalists(request)], request)[0]

    def finalists(self, request: Request) -> list[Stack]:
        """The stacks that are simulated to answer a request: none of the others is chosen. Raises as `advise` does."""
        priced, judged = self.evaluated(request)
        return [priced.stacks[place] for place in self.finalist_indices(priced, judged)]

    def evaluated(self, request: Request) -> tuple[PricedStacks, Verdicts]:
        """Every stack in closed form, held against the limits. Raises as `advise` does."""
        priced = self.price_all(request)
        if not priced.stacks:
            raise self._nothing_left(request)
        return priced, evaluate(priced.columns, request, self.budget_gib(request))

    def with_memory(self, extra_gib: float) -> "Planner":
        """The same for devices with so many GiB more for use. Closed forms stay those for less: they only say what is simulated."""
        wider = copy(self)
        wider.estimator = self.estimator.with_memory(extra_gib * GIB)
        wider._simulated = {(stack, load): known for (stack, load), known in self._simulated.items() if self._all_fit(stack, load)}
        return wider

    def budget_gib(self, request: Request) -> float:
        """GiB of each device that a stack may take: what there is for use, or the limit where that is less."""
        limit, budget_gib = request.limits.memory_gib_per_device, self.estimator.budget_bytes / GIB
        return min(budget_gib, limit) if limit is not None else budget_gib

    def price_all(self, request: Request) -> PricedStacks:
        """Every stack with its closed-form metrics; limits and preference change nothing of it."""
        known = self.cached_prices(request)
        if known is None:
            if len(self._priced) >= MOST_PRICED:
                self._priced.pop(next(iter(self._priced)))
            pricing = StackPricer(self.estimator, request.workload, self._quality_table(request).of)
            known = self._priced[_priced_key(request)] = pricing.price(stacks(self.model, request, self.estimator.engine.name))
        return known

    def cached_prices(self, request: Request) -> PricedStacks | None:
        """The same where it was asked before; `None` where it would take its time."""
        return self._priced.get(_priced_key(request))

    def candidate(self, stack: Stack, request: Request) -> Candidate:
        """A stack with simulated metrics, judged by the request's limits."""
        key = (stack, request.workload)
        checkpoint()
        if key not in self._simulated:
            served = self.estimator.simulate(stack.deployment, request.workload)
            metrics = self.estimator.metrics_of(stack.deployment, request.workload, served, self.quality(stack, request))
            self._simulated[key] = self._with_needed_memory(metrics, stack, request), served
        return self._evaluate_simulated(stack, request)

    def _evaluate_simulated(self, stack: Stack, request: Request) -> Candidate:
        """What was simulated, held against the limits of a request."""
        metrics, served = self._simulated[stack, request.workload]
        goodput = self.estimator.goodput(stack.deployment, request.workload, served, request.limits)
        return self._evaluate(stack, metrics.model_copy(update={"goodput_per_s": goodput}), request)

    def simulated(self, stack: Stack, request: Request) -> Candidate | None:
        """The same where it was simulated before; `None` where it would take its time."""
        return self._evaluate_simulated(stack, request) if (stack, request.workload) in self._simulated else None

    def best(self, candidates: Sequence[Candidate], request: Request) -> Candidate:
        """The one that ranks first."""
        return self._ordered(candidates, request)[0]

    def quality(self, stack: Stack, request: Request) -> QualityEffect:
        """The losses of all techniques of a stack, added; the ranges as if independent."""
        return self._quality_table(request).of(stack)

    def _quality_table(self, request: Request) -> Losses:
        """What is known of losses under this workload."""
        return self._losses.setdefault(request.workload, Losses(self.evidence, request))

    def _nothing_left(self, request: Request) -> AdvisorError:
        """Every stack with what is required was refused: say by whom."""
        return AdvisorError(
            "requirement-refused",
            f"no stack holds what is required: {', '.join(request.require)}",
            exit_code=ExitCode.NO_PLAN,
            notes=tuple(
                f"{name}: {sentence}" for name, sentence in why_nothing_is_left(self.model, request, self.estimator.engine.name).items()
            ),
            help=("drop a --require",),
            field="require",
            action=ErrorAction.DROP,
        )

    def _ordered(self, candidates: Sequence[Candidate], request: Request) -> list[Candidate]:
        return order(candidates, request, self.budget_gib(request))

    def _evaluate(self, stack: Stack, metrics: Metrics, request: Request) -> Candidate:
        budget_gib = self.budget_gib(request)
        judged = evaluate(columns_of([metrics], [len(stack.techniques)]), request, budget_gib)
        missed = violations_of(metrics, request.limits, budget_gib)
        chances = tuple((limit, float(chance[0])) for limit, chance in judged.probabilities.items())
        verdict = status(float(judged.probability[0]), missed)
        return Candidate(candidate_id(stack), stack.techniques, stack.deployment, metrics, verdict, missed, chances)

    def _all_fit(self, stack: Stack, workload: Workload) -> bool:
        """Whether every wanted request fits at once, so that more memory changes nothing."""
        return self.estimator.requested_bytes(stack.deployment, workload) <= self.estimator.budget_bytes

    def _with_needed_memory(self, metrics: Metrics, stack: Stack, request: Request) -> Metrics:
        """Memory of what was asked for, also where it does not fit."""
        assert metrics.peak_memory_gib is not None
        needed = self.estimator.requested_memory(stack.deployment, request.workload)
        shown, cache = metrics.peak_memory_gib, metrics.kv_cache_gib
        missing = max(needed.value - shown.value, 0.0)
        return metrics.model_copy(
            update={
                "peak_memory_gib": needed,
                "kv_cache_gib": Value.exact(cache.value + missing) if cache is not None else None,
            }
        )

    def finalist_indices(self, priced: PricedStacks, judged: Verdicts) -> list[int]:
        """Of all stacks the best by rank, those of equal numbers once, and the best by each objective among those that fit."""
        ordered = judged.order
        picked = representatives(priced.columns, ordered, judged.cost[ordered])
        fit = ordered[~judged.infeasible[ordered]]
        among = fit if len(fit) else ordered[:FINALISTS]
        for metric, sign in OBJECTIVES.items():
            picked.append(among[(sign * priced.columns.metrics[metric].value[among]).argmin()])
        return list(dict.fromkeys(int(place) for place in picked))

    def frontier_of(self, finalists: Sequence[Candidate], request: Request) -> list[Candidate]:
        """Of the finalists those that are shown, best first: the frontier, and of it only what misses where the best one does."""
        ordered = self._ordered(finalists, request)
        fits = ordered[0].status is not Status.INFEASIBLE
        return [c for c in frontier(ordered) if fits or c.status is Status.INFEASIBLE][:SHOWN]


def _priced_key(request: Request) -> tuple[object, ...]:
    return request.workload, request.devices, request.require, request.forbid


def candidate_id(stack: Stack) -> str:
    """Eight hex digits over techniques, options and layout."""
    parts = [f"{technique.name}{sorted(options_of(technique).items())}" for technique in stack.techniques]
    return hashlib.sha256(repr((parts, stack.deployment.parallel)).encode()).hexdigest()[:8]

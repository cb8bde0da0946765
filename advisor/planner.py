"""The planner: price every stack, simulate the finalists, rank them, and say what would have to give when nothing fits."""

import hashlib
import math
from collections.abc import Callable, Sequence

from advisor.advice import Advice, Candidate, Miss, Relaxation, Status
from advisor.backends.deployment import Deployment
from advisor.backends.technique import LOSSLESS, QualityEffect, Technique
from advisor.backends.techniques import by_name, options_of
from advisor.estimate.closed_form import Steady
from advisor.estimate.estimator import Estimator
from advisor.estimate.memory import GIB
from advisor.estimate.served import Served
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.evidence import Evidence
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.models import ModelSpec
from advisor.profiles.request import Load, Request, Workload
from advisor.ranking import distance, frontier, misses, order, status
from advisor.reasons import reasons
from advisor.search import Stack, baselines, refold, stacks
from advisor.shown_metrics import BY_LIMIT

FINALISTS = 12
MOST_DEVICES = 8
"""Of one machine; more are a cluster."""
RATE_ROUNDS = 5
"""Halvings in search of the most requests per second."""
SHOWN = 8
"""Most plans of the frontier that are shown."""
OBJECTIVES = ("tpot_ms_mean", "ttft_ms_p95", "peak_memory_gib")


class Planner:
    """One model on one machine: prices are kept, so that changed limits only re-rank."""

    def __init__(self, model: ModelSpec, hardware: Hardware, estimator: Estimator, evidence: Evidence, profile: str | None) -> None:
        self.model = model
        self.hardware = hardware
        self.estimator = estimator
        self.evidence = evidence
        self.profile = profile
        self._simulated: dict[tuple[Stack, Workload], tuple[Metrics, Served]] = {}
        self._factors: dict[tuple[str, str, int], tuple[float, float]] = {}
        self._effects: dict[Technique, QualityEffect] = {}

    def advise(self, request: Request) -> Advice:
        """Answer one request. Never empty: when nothing fits, the nearest stack leads."""
        quick = [self._quick(stack, request) for stack in stacks(self.model, request, self.estimator.engine.name)]
        if not quick:
            raise self._nothing_left(request)
        ranked = order(quick, request)
        finalists = order([self.candidate(stack_of(c), request) for c in self._finalists(ranked, request)], request)
        chosen = finalists[0]
        fits = chosen.status is not Status.MISSES
        kept = [c for c in frontier(finalists) if fits or c.status is Status.MISSES][:SHOWN]
        return Advice(
            request=request,
            model=self.model,
            hardware=self.hardware,
            profile=self.profile,
            chosen=chosen,
            ranked=tuple(kept),
            reasons=tuple(reasons(self, chosen, request)),
            relaxations=() if fits else tuple(self._relaxations(ranked, chosen, request)),
            binding=None if fits else max(chosen.misses, key=lambda miss: miss.ratio),
            considered=len(quick),
            feasible=sum(c.status is not Status.MISSES for c in quick),
        )

    def candidate(self, stack: Stack, request: Request) -> Candidate:
        """A stack with simulated metrics, judged by the request's limits."""
        key = (stack, request.workload)
        if key not in self._simulated:
            served = self.estimator.serve(stack.deployment, request.workload)
            metrics = self.estimator.metrics_of(stack.deployment, request.workload, served, self.quality(stack))
            self._simulated[key] = self._with_needed_memory(metrics, stack, request), served
        metrics, served = self._simulated[key]
        goodput = self.estimator.goodput(stack.deployment, request.workload, served, request.limits)
        return self._judged(stack, metrics.model_copy(update={"goodput_per_s": goodput}), request)

    def quality(self, stack: Stack) -> QualityEffect:
        """The losses of all techniques of a stack, added; the ranges as if independent."""
        effects = [effect for effect in (self._effect(technique, stack) for technique in stack.techniques) if effect.sources]
        if not effects:
            return LOSSLESS
        loss = sum(effect.loss_pct for effect in effects)
        below = math.hypot(*(effect.loss_pct - effect.low_pct for effect in effects))
        above = math.hypot(*(effect.high_pct - effect.loss_pct for effect in effects))
        sources = tuple(dict.fromkeys(source for effect in effects for source in effect.sources))
        return QualityEffect(loss, max(loss - below, 0.0), loss + above, sources)

    def _nothing_left(self, request: Request) -> AdvisorError:
        """Every stack with what is required was refused: say by whom."""
        start = baselines(self.model, request, self.estimator.engine.name)[0]
        refusals = {name: by_name(name).refuse(request, start) for name in request.require}
        return AdvisorError(
            "requirement-refused",
            f"no stack holds what is required: {', '.join(request.require)}",
            exit_code=ExitCode.NO_PLAN,
            notes=tuple(f"{name}: {sentence}" for name, sentence in refusals.items() if sentence),
            help=("drop a --require",),
        )

    def _effect(self, technique: Technique, stack: Stack) -> QualityEffect:
        if technique not in self._effects:
            self._effects[technique] = technique.quality(stack.deployment, self.evidence)
        return self._effects[technique]

    def _quick(self, stack: Stack, request: Request) -> Candidate:
        steady = self.estimator.steady(stack.deployment, request.workload)
        return self._judged(stack, self._steady_metrics(stack, steady, request), request)

    def _judged(self, stack: Stack, metrics: Metrics, request: Request) -> Candidate:
        missed = [miss for miss in misses(metrics, request.limits) if miss.limit != "memory_gib_per_device"]
        needed = metrics.peak_memory_gib
        budget_gib = self._budget_bytes(request) / GIB
        if needed is not None and needed.value > budget_gib:
            missed.append(Miss("memory_gib_per_device", budget_gib, needed))
        verdict = status(metrics, request.limits, tuple(missed))
        return Candidate(candidate_id(stack), stack.techniques, stack.deployment, metrics, verdict, tuple(missed))

    def _budget_bytes(self, request: Request) -> float:
        limit = request.limits.memory_gib_per_device
        return min(self.estimator.budget_bytes, limit * GIB) if limit is not None else self.estimator.budget_bytes

    def _with_needed_memory(self, metrics: Metrics, stack: Stack, request: Request) -> Metrics:
        """Memory of what was asked for, also where it does not fit."""
        assert metrics.peak_memory_gib is not None
        needed = self.estimator.needed_memory(stack.deployment, request.workload)
        shown, cache = metrics.peak_memory_gib, metrics.kv_cache_gib
        missing = max(needed.value - shown.value, 0.0)
        return metrics.model_copy(
            update={
                "peak_memory_gib": needed,
                "kv_cache_gib": Value.exact(cache.value + missing) if cache is not None else None,
            }
        )

    def _steady_metrics(self, stack: Stack, steady: Steady, request: Request) -> Metrics:
        """Without the simulation; the ranges decide which stacks keep the limits for sure and so reach the simulation."""
        needed = self.estimator.needed_bytes(stack.deployment, request.workload) / GIB
        ttft = self._ranged("ttft", steady.ttft_ms_p95, stack.deployment)
        tpot = self._ranged("tpot", steady.tpot_ms, stack.deployment)
        loss = self.quality(stack)
        return Metrics.model_construct(
            ttft_ms_mean=ttft,
            ttft_ms_p95=ttft,
            tpot_ms_mean=tpot,
            tpot_ms_p95=tpot,
            throughput_tok_s=self._ranged("throughput", steady.throughput_tok_s, stack.deployment),
            request_rate_per_s=self._ranged("throughput", steady.capacity_tok_s / request.workload.output_tokens, stack.deployment),
            peak_memory_gib=self._ranged("memory", needed, stack.deployment),
            quality_loss_pct=Value.model_construct(value=loss.loss_pct, low=loss.low_pct, high=loss.high_pct, basis=Basis.LITERATURE),
        )

    def _ranged(self, metric: str, value: float, deployment: Deployment) -> Value:
        decoding = deployment.decoding
        key = (metric, decoding.method, decoding.draft_tokens)
        if key not in self._factors:
            self._factors[key] = self.estimator.range_factors(metric, deployment)
        below, above = self._factors[key]
        return Value.model_construct(value=value, low=value * below, high=value * above, basis=Basis.DATASHEET)

    def _finalists(self, ranked: Sequence[Candidate], request: Request) -> list[Candidate]:
        """The best by rank and, among those that fit, the best by each objective."""
        picked = list(ranked[:FINALISTS])
        feasible = [c for c in ranked if c.status is not Status.MISSES] or list(ranked[:FINALISTS])
        for metric in OBJECTIVES:
            picked.append(min(feasible, key=lambda c: getattr(c.metrics, metric).value))
        picked.append(max(feasible, key=lambda c: c.metrics.throughput_tok_s.value if c.metrics.throughput_tok_s else 0.0))
        return list({candidate.id: candidate for candidate in picked}.values())

    def _relaxations(self, ranked: Sequence[Candidate], chosen: Candidate, request: Request) -> list[Relaxation]:
        """For each limit, the stack that misses only it, and by least."""
        found = []
        for limit in BY_LIMIT:
            only = [c for c in ranked if {miss.limit for miss in c.misses} == {limit}]
            if only:
                best = self.candidate(stack_of(min(only, key=distance)), request)
                missed = next((miss for miss in best.misses if miss.limit == limit), None)
                if missed is not None and len(best.misses) == 1:
                    found.append(Relaxation(limit, missed.asked, missed.predicted.value, best))
        slower = self._slower_arrivals(chosen, request)
        found = [relaxation for relaxation in found if relaxation.limit != "request_rate_per_s"] if slower else found
        return found + slower + self._smaller_questions(ranked, chosen, request) + self._more_devices(chosen, request)

    def _slower_arrivals(self, chosen: Candidate, request: Request) -> list[Relaxation]:
        """The most requests per second, to a few percent, that the nearest stack serves within every limit."""
        asked, lasting = request.workload.request_rate_per_s, chosen.metrics.request_rate_per_s
        if asked is None or lasting is None:
            return []
        low, high, best = 0.0, min(lasting.value, asked), None
        for _ in range(RATE_ROUNDS):
            rate = (low + high) / 2
            eased = request.model_copy(
                update={
                    "workload": request.workload.model_copy(update={"request_rate_per_s": rate}),
                    "limits": request.limits.model_copy(update={"request_rate_per_s": rate}),
                }
            )
            candidate = self.candidate(stack_of(chosen), eased)
            if candidate.status is Status.MISSES:
                high = rate
            else:
                low, best = rate, Relaxation("request_rate_per_s", asked, rate, candidate)
        return [best] if best is not None else []

    def _more_devices(self, chosen: Candidate, request: Request) -> list[Relaxation]:
        """The fewest devices, doubled each time, on which the nearest stack passes."""
        devices = request.devices * 2
        while devices <= MOST_DEVICES:
            wider = request.model_copy(update={"devices": devices})
            for start in baselines(self.model, wider, self.estimator.engine.name):
                stack = refold(chosen.techniques, start, wider)
                if isinstance(stack, Stack) and (candidate := self.candidate(stack, wider)).status is not Status.MISSES:
                    return [Relaxation("devices", float(request.devices), float(devices), candidate)]
            devices *= 2
        return []

    def _smaller_questions(self, ranked: Sequence[Candidate], chosen: Candidate, request: Request) -> list[Relaxation]:
        """Where memory is missing: the most context, and the most requests, with which one of the nearest stacks passes."""
        if "memory_gib_per_device" not in {miss.limit for miss in chosen.misses}:
            return []
        nearest = list({c.id: c for c in (chosen, *ranked[:FINALISTS])}.values())
        workload, found = request.workload, []
        shorter = self._eased(nearest, request, workload.longest_tokens, lambda tokens: _shorter(request, tokens))
        if shorter is not None:
            found.append(Relaxation("context_tokens", float(workload.longest_tokens), float(shorter[0]), shorter[1]))
        if workload.load is Load.CLOSED and workload.concurrency:
            fewer = self._eased(nearest, request, workload.concurrency, lambda n: workload.model_copy(update={"concurrency": n}))
            if fewer is not None:
                found.append(Relaxation("concurrency", float(workload.concurrency), float(fewer[0]), fewer[1]))
        return found

    def _eased(
        self, nearest: Sequence[Candidate], request: Request, asked: int, workload_of: Callable[[int], Workload]
    ) -> tuple[int, Candidate] | None:
        """The largest number whose workload one of the stacks serves within every limit, and that stack."""
        budget, best = self._budget_bytes(request), None
        for stack in map(stack_of, nearest):
            number = self._largest(asked, workload_of, stack.deployment, budget)
            if number < 1 or (best is not None and number <= best[0]):
                continue
            candidate = self.candidate(stack, request.model_copy(update={"workload": workload_of(number)}))
            if candidate.status is not Status.MISSES:
                best = (number, candidate)
        return best

    def _largest(self, asked: int, workload_of: Callable[[int], Workload], deployment: Deployment, budget_bytes: float) -> int:
        """The largest number up to `asked` whose workload fits in memory; 0 when not even 1 does."""
        low, high = 0, asked
        while low < high:
            middle = (low + high + 1) // 2
            if self.estimator.needed_bytes(deployment, workload_of(middle)) <= budget_bytes:
                low = middle
            else:
                high = middle - 1
        return low


def stack_of(candidate: Candidate) -> Stack:
    """The stack behind a candidate."""
    return Stack(candidate.techniques, candidate.deployment)


def candidate_id(stack: Stack) -> str:
    """Eight hex digits over techniques, options and layout."""
    parts = [f"{technique.name}{sorted(options_of(technique).items())}" for technique in stack.techniques]
    return hashlib.sha256(repr((parts, stack.deployment.parallel)).encode()).hexdigest()[:8]


def _shorter(request: Request, tokens: int) -> Workload:
    workload = request.workload
    output = min(workload.output_tokens, max(tokens // 2, 1))
    prompt = max(min(workload.prompt_tokens, tokens - output), 1)
    return workload.model_copy(update={"prompt_tokens": prompt, "output_tokens": output, "context_limit_tokens": tokens})

"""Caches of one model on one machine. Planning begins in `advise.py`."""

from collections.abc import Iterable
from copy import copy

from advisor.backends.technique import QualityEffect
from advisor.estimate.cancellation import checkpoint
from advisor.estimate.estimator import Estimator
from advisor.planning.advice import Candidate
from advisor.planning.candidates import candidate_of
from advisor.planning.pricing import PricedStacks, StackPricer
from advisor.planning.quality_table import QualityTable
from advisor.planning.search import Stack
from advisor.planning.simulation import Simulation, simulate, with_goodput
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.evidence import Evidence
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import DTYPES, Hardware
from advisor.profiles.request import Request, Workload
from advisor.quantities.limits import MEMORY

CACHED_SEARCHES = 4
"""Workloads whose search stays cached: a user alternates between a few."""


class Planner:
    """A model on a machine, with caches of prices, simulations and quality losses: a request that differs in limits only ranks again."""

    def __init__(self, model: ModelSpec, hardware: Hardware, estimator: Estimator, evidence: Evidence, profile: str | None) -> None:
        self.model = model
        self.hardware = hardware
        self.estimator = estimator
        self.evidence = evidence
        self.profile = profile
        self._prices: dict[tuple[object, ...], PricedStacks] = {}
        self._simulations: dict[tuple[Stack, Workload], Simulation] = {}
        self._quality: dict[Workload, QualityTable] = {}

    @property
    def engine(self) -> str:
        """Name of the engine that runs the model."""
        return self.estimator.engine.name

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Types of activations worth choosing from on the machine, the fastest first; empty for a quantised checkpoint."""
        own = self.model.weight_format
        return tuple(filter(self.estimator.engine.runs, self.estimator.machine.dtypes(own))) if own in DTYPES else ()

    def budget_gib(self, request: Request) -> float:
        """GiB of each device that a stack may use: the usable memory, or the request's limit where that is less."""
        limit, usable_gib = request.limits.bound(MEMORY), self.estimator.memory.budget_bytes / GIB
        return min(usable_gib, limit) if limit is not None else usable_gib

    def price(self, stacks: Iterable[Stack], request: Request) -> PricedStacks:
        """Price the stacks of a request's search in closed form. `stacks` is not iterated where the prices are cached."""
        cached = self.cached_prices(request)
        if cached is None:
            if len(self._prices) >= CACHED_SEARCHES:
                self._prices.pop(next(iter(self._prices)))
            pricer = StackPricer(self.estimator, request.workload, self._quality_table(request).of)
            cached = self._prices[_search_key(request)] = pricer.price(stacks)
        return cached

    def cached_prices(self, request: Request) -> PricedStacks | None:
        """The prices of a request's search; `None` where they are not cached. Limits and preference do not change them."""
        return self._prices.get(_search_key(request))

    def simulate(self, stack: Stack, request: Request) -> Candidate:
        """Simulate a stack under a request's workload and compare it with the request's limits."""
        checkpoint()
        key = stack, request.workload
        if key not in self._simulations:
            self._simulations[key] = simulate(self.estimator, stack, request.workload, self.quality(stack, request))
        return self._candidate(stack, request)

    def cached_simulation(self, stack: Stack, request: Request) -> Candidate | None:
        """The result of `simulate`; `None` where the simulation is not cached."""
        return self._candidate(stack, request) if (stack, request.workload) in self._simulations else None

    def quality(self, stack: Stack, request: Request) -> QualityEffect:
        """The sum of the quality losses of a stack's techniques."""
        return self._quality_table(request).of(stack)

    def with_memory(self, extra_gib: float) -> "Planner":
        """A planner for devices with `extra_gib` more usable memory. Cached prices are shared: they only select what is simulated."""
        larger = copy(self)
        larger.estimator = self.estimator.with_memory(extra_gib * GIB)
        larger._simulations = {key: simulation for key, simulation in self._simulations.items() if self._all_fit(*key)}
        return larger

    def _candidate(self, stack: Stack, request: Request) -> Candidate:
        simulation = self._simulations[stack, request.workload]
        metrics = with_goodput(simulation, self.estimator, stack, request.workload, request.limits)
        return candidate_of(stack, metrics, request, self.budget_gib(request))

    def _quality_table(self, request: Request) -> QualityTable:
        return self._quality.setdefault(request.workload, QualityTable(self.evidence, request))

    def _all_fit(self, stack: Stack, workload: Workload) -> bool:
        """Whether all requested sequences fit at once, so that more memory changes no time."""
        return self.estimator.memory.requested_bytes(stack.deployment, workload) <= self.estimator.memory.budget_bytes


def _search_key(request: Request) -> tuple[object, ...]:
    return request.workload, request.devices, request.require, request.forbid

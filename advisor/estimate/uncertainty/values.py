"""Predicted numbers with their ranges: what they are factored by, what speculation adds, and what memory is sure of."""

import math
from dataclasses import dataclass

from advisor.backends.deployment import Deployment
from advisor.estimate.machines.machine import Machine
from advisor.estimate.machines.profiled import ProfiledMachine
from advisor.estimate.memory.ledger import Footprint, Ledger
from advisor.estimate.uncertainty.domain import extrapolations
from advisor.estimate.uncertainty.ranges import Factors, contended_spread, spread, stratum_of, wider
from advisor.profiles.evidence import expected_tokens
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis, Value, weakest
from advisor.profiles.request import Workload


@dataclass(frozen=True, slots=True)
class Ranges:
    """The ranges of one deployment on one machine; without a workload, those of its busy state."""

    basis: Basis
    shared: bool
    """Others used the machine while it was measured."""
    outside: bool
    """The setting is unlike all that was compared with measurements."""
    deployment: Deployment
    workload: Workload | None

    def factors(self, metric: str) -> Factors:
        """What a value of `metric`, a name of `ranges.csv`, is multiplied by for the ends of its range."""
        stratum = stratum_of(metric, self.deployment, self.workload)
        known = spread(metric, self.basis, stratum, outside=self.outside)
        if self.shared:
            known = wider(known, contended_spread(metric, self.basis, stratum))
        return _speculated(known, metric, self.deployment)

    @property
    def speculated_basis(self) -> Basis:
        """The basis of what decoding takes: speculation is known from literature."""
        return weakest(self.basis, Basis.LITERATURE) if self.deployment.decoding.draft_tokens else self.basis

    def value(self, metric: str, value: float) -> Value:
        """A predicted value of `metric`."""
        below, above = self.factors(metric)
        basis = self.speculated_basis if metric in ("tpot", "throughput") else self.basis
        return Value(value=value, low=value * below, high=value * above, basis=basis)

    def memory_gib(self, held: Ledger) -> Value:
        """A device's memory: weights and cache follow from shapes, only the rest has a range. Weights are there in any case."""
        over, under = self._rests()
        rest, total = held.total_bytes - held.exact_bytes, held.total_bytes
        least = max(total - over * rest, min(held.weights_bytes + held.draft_bytes, total))
        return Value(value=total / GIB, low=least / GIB, high=(total + under * rest) / GIB, basis=self.basis)

    def _rests(self) -> tuple[float, float]:
        """How many times the rest of memory a prediction may be too high, and too low."""
        below, above = self.factors("memory")
        return 1 / below - 1, above - 1

    def concurrency(self, fitting: int, held: Footprint) -> Value:
        """Whole requests that fit at once on all replicas: what memory is not sure of is taken from the cache, or left to it."""
        over, under = self._rests()
        rest, replicas = held.inexact_bytes(fitting) / max(held.sequence_bytes, 1.0), self.deployment.parallel.data
        fewest, most = math.floor(max(fitting - under * rest, 0.0)), math.ceil(fitting + over * rest)
        return Value(value=float(fitting * replicas), low=float(fewest * replicas), high=float(most * replicas), basis=self.basis)


def ranges_of(machine: Machine, deployment: Deployment, workload: Workload | None = None) -> Ranges:
    """The ranges of a deployment under a workload."""
    shared = isinstance(machine, ProfiledMachine) and machine.profile.shared
    outside = workload is not None and any(True for _ in extrapolations(machine.basis, deployment, workload))
    return Ranges(machine.basis, shared, outside, deployment, workload)


def inverse(tpot: Value) -> Value:
    """Tokens per second that one request sees."""
    return Value(value=1e3 / tpot.value, low=1e3 / tpot.high, high=1e3 / tpot.low, basis=tpot.basis)


def _speculated(known: Factors, metric: str, deployment: Deployment) -> Factors:
    """Widen by what is not known of the acceptance, which is known from literature: times go with one over the tokens per step."""
    decoding = deployment.decoding
    if not decoding.draft_tokens or metric not in ("tpot", "throughput"):
        return known
    middle = expected_tokens(decoding.acceptance, decoding.draft_tokens)
    fewest, most = (expected_tokens(share, decoding.draft_tokens) for share in decoding.acceptance_spread)
    low, high = (fewest / middle, most / middle) if metric == "throughput" else (middle / most, middle / fewest)
    return known[0] * min(low, 1.0), known[1] * max(high, 1.0)

"""Predicted numbers with their ranges: calibrated factors, the spread of acceptance rates, and the inexact part of memory."""

import math
from dataclasses import dataclass

from advisor.backends.deployment import Deployment
from advisor.estimate.machines.machine import Machine
from advisor.estimate.memory.ledger import Footprint, Ledger
from advisor.estimate.uncertainty.domain import extrapolations
from advisor.estimate.uncertainty.ranges import Factors, contended_spread, spread, stratum_of, wider
from advisor.profiles.evidence import expected_tokens
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis, Value, weakest
from advisor.profiles.request import Workload


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges of predictions for one deployment on one machine; without a workload, those of many concurrent requests."""

    basis: Basis
    contended: bool
    """Whether other processes used the machine while it was measured."""
    extrapolated: bool
    """Whether the setting lies outside of those whose predictions were compared with measurements."""
    deployment: Deployment
    workload: Workload | None

    def factors(self, metric: str) -> Factors:
        """Factors from a value of `metric`, a name of `ranges.csv`, to the ends of its range."""
        stratum = stratum_of(metric, self.deployment, self.workload)
        factors = spread(metric, self.basis, stratum, extrapolated=self.extrapolated)
        if self.contended:
            factors = wider(factors, contended_spread(metric, self.basis, stratum))
        return _with_acceptance(factors, metric, self.deployment)

    @property
    def speculated_basis(self) -> Basis:
        """Basis of decoding times: literature at best under speculative decoding, whose acceptance rates come from there."""
        return weakest(self.basis, Basis.LITERATURE) if self.deployment.decoding.draft_tokens else self.basis

    def value(self, metric: str, value: float) -> Value:
        """A predicted value of `metric` with its range and basis."""
        below, above = self.factors(metric)
        basis = self.speculated_basis if metric in ("tpot", "throughput") else self.basis
        return Value(value=value, low=value * below, high=value * above, basis=basis)

    def memory_gib(self, memory: Ledger) -> Value:
        """GiB of a device. Weights and cache are exact, only the other parts have a range; the low end is at least the weights."""
        below, above = self._inexact_shares()
        inexact, total = memory.total_bytes - memory.exact_bytes, memory.total_bytes
        least = max(total - below * inexact, min(memory.weights_bytes + memory.draft_bytes, total))
        return Value(value=total / GIB, low=least / GIB, high=(total + above * inexact) / GIB, basis=self.basis)

    def _inexact_shares(self) -> tuple[float, float]:
        """How far actual memory may lie below and above a prediction, as multiples of its inexact part."""
        below, above = self.factors("memory")
        return 1 / below - 1, above - 1

    def concurrency(self, memory: Footprint, budget_bytes: float) -> Value:
        """Sequences that fit at once on all replicas, each within a budget: the error of inexact memory is made up by the cache.

        The low end is of a version of the engine that reserves the most for each sequence. Ends are whole numbers outside of the range.
        """
        below, above = self._inexact_shares()
        usual, least, replicas = memory.reserving(), memory.reserving(most=True), self.deployment.parallel.data
        fitting = usual.max_sequences(budget_bytes)
        fewest, most = (
            footprint.sequences_within(budget_bytes) + share * footprint.inexact_bytes(fitting) / max(footprint.sequence_bytes, 1.0)
            for footprint, share in ((least, -above), (usual, below))
        )
        low, high = min(math.floor(max(fewest, 0.0)), fitting), max(math.ceil(most), fitting)
        return Value(value=float(fitting * replicas), low=float(low * replicas), high=float(high * replicas), basis=self.basis)


def ranges_of(machine: Machine, deployment: Deployment, workload: Workload | None = None) -> Ranges:
    """The ranges of a deployment under a workload."""
    extrapolated = workload is not None and any(True for _ in extrapolations(machine.basis, deployment, workload))
    return Ranges(machine.basis, machine.contended, extrapolated, deployment, workload)


def inverse(tpot: Value) -> Value:
    """Tokens per second of one request from its TPOT in ms, with the ends of the range exchanged."""
    return Value(value=1e3 / tpot.value, low=1e3 / tpot.high, high=1e3 / tpot.low, basis=tpot.basis)


def _with_acceptance(factors: Factors, metric: str, deployment: Deployment) -> Factors:
    """Widen factors by the spread of acceptance rates in the literature: decoding time is inverse to tokens per step."""
    decoding = deployment.decoding
    if not decoding.draft_tokens or metric not in ("tpot", "throughput"):
        return factors
    middle = expected_tokens(decoding.acceptance, decoding.draft_tokens)
    fewest, most = (expected_tokens(share, decoding.draft_tokens) for share in decoding.acceptance_spread)
    low, high = (fewest / middle, most / middle) if metric == "throughput" else (middle / most, middle / fewest)
    return factors[0] * min(low, 1.0), factors[1] * max(high, 1.0)

"""Predicted numbers with their ranges: calibrated factors, the spread of acceptance rates, and the inexact part of memory."""

import math
from dataclasses import dataclass

from advisor.backends.deployment import Deployment
from advisor.estimate.machines.machine import Machine
from advisor.estimate.memory.cache import cache_spread
from advisor.estimate.memory.ledger import Footprint, Ledger
from advisor.estimate.uncertainty.ranges import Factors, contended_spread, spread, stratum_of, wider
from advisor.profiles.engines import load_engine
from advisor.profiles.evidence import expected_tokens
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis, Value, weakest

SPEEDS, TIMES = frozenset({"throughput", "prefill"}), frozenset({"ttft", "tpot"})
"""Names of `ranges.csv` for rates and for times."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges of predictions for one deployment on one machine."""

    basis: Basis
    contended: bool
    """Whether other processes used the machine while it was measured."""
    deployment: Deployment
    speed_spread: Factors = (1.0, 1.0)
    """Factors on speeds by a setting of the machine."""

    def factors(self, metric: str) -> Factors:
        """Factors from a value of `metric`, a name of `ranges.csv`, to the ends of its range."""
        stratum = stratum_of(metric, self.deployment)
        factors = spread(metric, self.basis, stratum)
        if self.contended:
            factors = wider(factors, contended_spread(metric, self.basis, stratum))
        if metric in SPEEDS:
            slow, fast = self.speed_spread
            factors = factors[0] * slow, factors[1] * fast
        elif metric in TIMES:
            slow, fast = self.speed_spread
            factors = factors[0] / fast, factors[1] / slow
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
        """GiB of a device. Weights but for their padding, and caches, follow from shapes; the low end is at least the weights."""
        below, above = self._inexact_shares()
        inexact, total, (less, more) = memory.total_bytes - memory.exact_bytes, memory.total_bytes, memory.padding_bytes
        least = max(total - below * inexact, min(memory.weights_bytes + memory.draft_bytes, total)) - less
        return Value(value=total / GIB, low=least / GIB, high=(total + above * inexact + more) / GIB, basis=self.basis)

    def weights_gib(self, memory: Ledger) -> Value:
        """GiB of weights on a device: exact, or with the padding of kernels and buffers beside them that engines were seen to add.

        Where the config leaves the format uncertain, the low end is a quarter: four bits in place of sixteen.
        """
        (less, more), surplus = memory.padding_bytes, load_engine(self.deployment.engine).loading.surplus
        weights = (memory.weights_bytes + memory.draft_bytes) / GIB
        model = self.deployment.model
        is_uncertain = bool(model.warnings) and model.file_bytes is None
        if not (less or more or surplus or is_uncertain):
            return Value.exact(weights)
        low = weights / 4 if is_uncertain else weights - less / GIB
        return Value(value=weights, low=low, high=(weights + more / GIB) * (1 + surplus), basis=Basis.LITERATURE)

    def cache_gib(self, cache_bytes: float) -> Value:
        """GiB of caches on a device: exact where the engine's layout is known, else with the least and the most scales that are usual."""
        below, above = cache_spread(self.deployment)
        if below == above == 1.0:
            return Value.exact(cache_bytes / GIB)
        return Value(value=cache_bytes / GIB, low=cache_bytes * below / GIB, high=cache_bytes * above / GIB, basis=Basis.LITERATURE)

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
        fitting, (less, more) = usual.max_sequences(budget_bytes), memory.padding_bytes
        spread_below, spread_above = cache_spread(self.deployment)
        fewest = least.sequences_within(budget_bytes - above * least.inexact_bytes(fitting) - more) / spread_above
        most = usual.sequences_within(budget_bytes + below * usual.inexact_bytes(fitting) + less) / spread_below
        low, high = min(math.floor(max(fewest, 0.0)), fitting), max(math.ceil(most), fitting)
        return Value(value=float(fitting * replicas), low=float(low * replicas), high=float(high * replicas), basis=self.basis)


def ranges_of(machine: Machine, deployment: Deployment) -> Ranges:
    """The ranges of a deployment on a machine."""
    return Ranges(machine.basis, machine.contended, deployment, machine.speed_spread)


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

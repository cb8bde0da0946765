"""Fit what an engine adds to measured kernels: the constants of profiles/engines/*.yaml, for closed loops.

usage: python tools/fit_engines.py CASES.CSV ENGINE [--wait STEPS] [--share 0.3]

In a closed loop the order of events does not depend on how long steps take, so every mean TTFT and TPOT is linear in the
constants. One simulation of a setting with the parts of a step as a vector gives its row of the design matrix; a robust
least squares of logarithms with bounds does the rest. Prints the constants and the errors that they leave; nothing is written.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from advisor.estimate.catalogue import CatalogueMachine
from advisor.estimate.estimator import Estimator
from advisor.estimate.machine import price
from advisor.estimate.operators import AllReduce, AttentionCall, Exchange, Gemm, Operator, Part, Traffic, step_operators, structure_of
from advisor.estimate.scheduler import Scheduler
from advisor.estimate.serving import counted_requests, varied_lengths
from advisor.estimate.steps import StepPricer
from advisor.profiles.engines import Scales, load_engine
from advisor.profiles.errors import AdvisorError
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model
from advisor.validate import deployment_of, workload_of
from advisor.validate_cases import Case, Setting, UnclearError, read_cases

Vector = npt.NDArray[np.float64]

LONGEST_TTFT_MS = 8000.0
"""Beyond it a TTFT is a queue, which says little about an engine."""
STIFFNESS = 0.002
"""Weight of the prior per row, in standard deviations of one prior value."""
ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Term:
    """One constant: where it starts, and what would be unphysical."""

    name: str
    prior: float
    least: float
    most: float


TERMS = (
    Term("decode.products", 1, 0.92, 1.4),
    Term("decode.experts", 1, 0.85, 1.5),
    Term("decode.attention", 1, 0.8, 1.6),
    Term("decode.collectives", 1, 0.7, 2),
    Term("prefill.products", 1, 0.85, 1.6),
    Term("prefill.experts", 1, 0.85, 3),
    Term("prefill.attention", 1, 0.8, 2),
    Term("prefill.collectives", 1, 0.7, 2.5),
    Term("layer_s", 2e-5, 5e-6, 1),
    Term("expert_layer_s", 1e-5, 0, 1),
    Term("step_s", 2e-4, 0, 1),
    Term("sequence_s", 4e-6, 0, 1),
    Term("prefill_layer_s", 5e-5, 0, 1),
    Term("prefill_step_s", 2e-3, 0, 1),
    Term("request_s", 0.015, 0, 0.2),
    Term("fixed", 1, 1, 1),
)
PLACE = {term.name: i for i, term in enumerate(TERMS)}


class VectorPricer(StepPricer):
    """Prices steps as one number per term instead of one sum."""

    def step_s(self, parts: tuple[Part, ...]) -> Any:
        """The terms of one step."""
        known: dict[tuple[Part, ...], Any] = self._memo
        if parts not in known:
            known[parts] = self._terms(parts)
        return known[parts]

    def draft_s(self, sequences: int, context: float) -> Any:
        """Nobody drafts here."""
        return 0.0

    def _terms(self, parts: tuple[Part, ...]) -> Vector:
        terms, model = np.zeros(len(TERMS)), self.deployment.model
        prefills = any(part.phase == "prefill" for part in parts)
        for operator in step_operators(self._blueprint, parts):
            seconds = price(self.machine, [operator], 0.0, Scales()).total_s
            terms[PLACE[_term_of(operator, prefills)]] += seconds
        terms[PLACE["layer_s"]] = len(model.layers)
        terms[PLACE["expert_layer_s"]] = structure_of(model).expert_layers
        terms[PLACE["step_s"]] = 1
        terms[PLACE["sequence_s"]] = sum(part.sequences for part in parts)
        if prefills:
            terms[PLACE["prefill_layer_s"]], terms[PLACE["prefill_step_s"]] = len(model.layers), 1
        return terms


def _term_of(operator: Operator, prefills: bool) -> str:
    phase = "prefill" if prefills else "decode"
    match operator:
        case Gemm():
            return f"{phase}.experts" if operator.routed else f"{phase}.products"
        case AttentionCall():
            return f"{phase}.attention"
        case Traffic():
            return "fixed"
        case AllReduce() | Exchange():
            return f"{phase}.collectives"


def rows(cases: list[Case], engine: str, wait_steps: float) -> Iterator[tuple[Vector, float, str]]:
    """Terms, measured seconds and metric of every case that a slot and not a queue decides."""
    by_setting: dict[Setting, list[Case]] = defaultdict(list)
    for case in cases:
        if case.setting is not None:
            by_setting[case.setting].append(case)
    estimators: dict[str, Estimator] = {}
    profile = load_engine(engine)
    for setting, found in by_setting.items():
        try:
            machine = CatalogueMachine(load_hardware(setting.hardware), profile.gpu)
            estimator = estimators.setdefault(setting.hardware, Estimator(machine, profile))
            times = _simulate(setting, estimator, wait_steps)
        except (AdvisorError, UnclearError):
            continue
        for case in found if times else ():
            assert times is not None
            ttft = case.metric == "ttft_ms"
            if not ttft or case.measured <= LONGEST_TTFT_MS:
                yield times[0 if ttft else 1], case.measured / 1e3, case.metric


def _simulate(setting: Setting, estimator: Estimator, wait_steps: float) -> tuple[Vector, Vector] | None:
    model = find_model(setting.model)
    deployment, workload = deployment_of(setting, model, estimator.engine), workload_of(setting)
    in_flight = max(-(-(workload.concurrency or 1) // deployment.parallel.data), 1)
    if workload.output_tokens < 2 or estimator.fitting(deployment, workload) == 0 or estimator.slots(deployment, workload) < in_flight:
        return None
    pricer = VectorPricer(deployment, estimator.machine)
    scheduler = Scheduler(pricer, policy="continuous", slots=in_flight, token_budget=estimator.engine.token_budget, request_s=0)
    counted = counted_requests(scheduler.serve(varied_lengths(workload, in_flight), in_flight=in_flight), in_flight)
    tpot = np.mean([(one.last_s - one.first_s) / (one.output - 1) for one in counted if one.output > 1], axis=0)
    ttft = np.mean([one.first_s - one.arrival_s for one in counted], axis=0)
    ttft = ttft + (wait_steps * tpot if in_flight > 1 else 0.0)
    ttft[PLACE["request_s"]] = 1
    return ttft, tpot


def fit(matrix: Vector, measured: Vector) -> Vector:
    """Constants within their bounds that make the logarithms of predictions closest, in absolute rather than squared terms."""
    prior = np.array([term.prior for term in TERMS])
    least, most = (np.array([getattr(term, side) for term in TERMS]) for side in ("least", "most"))
    scaled, found = matrix / measured[:, None], prior.copy()
    for _ in range(ROUNDS):
        predicted = np.maximum(scaled @ found, 1e-3)
        error = np.log(predicted)
        weight = 1 / np.maximum(np.abs(error), 0.05)
        slope = scaled * prior / predicted[:, None]
        curve = (slope * weight[:, None]).T @ slope + STIFFNESS * len(measured) * np.eye(len(TERMS))
        pull = (slope * weight[:, None]).T @ error + STIFFNESS * len(measured) * (found - prior) / prior
        found = found + 0.7 * prior * _bounded_step(curve, pull, (least - found) / prior, (most - found) / prior)
    return found


def _bounded_step(curve: Vector, pull: Vector, least: Vector, most: Vector) -> Vector:
    """Coordinate descent on the quadratic `curve`, `pull` within bounds."""
    step = np.zeros(len(pull))
    for _ in range(40):
        for i in range(len(pull)):
            step[i] = np.clip(step[i] - (pull[i] + curve[i] @ step) / curve[i, i], least[i], most[i])
    return step


def main() -> None:
    """Read, simulate, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("engine")
    parser.add_argument("--wait", type=float, default=0.0, help="decoding steps that a request waits for")
    parser.add_argument("--share", type=float, default=1.0, help="share of the settings to use, chosen by a fixed seed")
    options = parser.parse_args()
    rng = random.Random(1)
    kept = {case.setting for case in read_cases(options.cases) if case.setting is not None}
    chosen = {setting for setting in sorted(kept, key=str) if rng.random() < options.share}
    cases = [
        case
        for case in read_cases(options.cases)
        if case.setting in chosen and case.precision_stated and case.engine == options.engine and case.metric in ("ttft_ms", "tpot_ms")
    ]
    found = list(rows(cases, options.engine, options.wait))
    matrix, measured = np.array([row[0] for row in found]), np.array([row[1] for row in found])
    constants = fit(matrix, measured)
    for term, value in zip(TERMS, constants, strict=True):
        print(f"{term.name:22s} {value:.3g}")
    predicted = matrix @ constants
    for metric in ("tpot_ms", "ttft_ms"):
        ratio = (predicted / measured)[[row[2] == metric for row in found]]
        error, bias = 100 * np.median(abs(ratio - 1)), 100 * (np.median(ratio) - 1)
        print(f"{metric}: {len(ratio)} rows, median |error| {error:.1f} %, bias {bias:+.1f} %")


if __name__ == "__main__":
    main()

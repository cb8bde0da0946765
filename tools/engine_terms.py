"""What each constant of a serving engine contributes to a published time: the rows of the design matrix of its fit.

In a closed loop the order of events hardly depends on how long steps take, so every mean time is linear in the constants. One
simulation with the constants as they are logs its steps; each step is then split into terms, and the terms are added up
between the events that a metric is the time between.
"""

import sys
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from advisor.backends.deployment import Deployment
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.machines.gemm_time import measured_format
from advisor.estimate.machines.machine import operator_s, term_of
from advisor.estimate.operators.build import step_operators
from advisor.estimate.operators.structure import structure_of
from advisor.estimate.operators.types import Gemm, Operator, Phase, StepPart
from advisor.estimate.serving import simulate as serving
from advisor.estimate.serving.scheduler import Scheduler
from advisor.estimate.serving.scheduler_rules import SchedulerRules
from advisor.estimate.steps.pricer import StepPricer, prefill_steps
from advisor.profiles.engines import Overheads, Scales, load_engine
from advisor.profiles.errors import AdvisorError
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Workload
from advisor.validation.cases import CaseConfiguration, PublishedCase, UnpredictableCaseError
from advisor.validation.predict import cache_friendly_order, deployment_of, estimator_for, with_stated_requests, workload_of

Vector = npt.NDArray[np.float64]

SCALED = ("products", "attention", "latent", "recurrent", "collectives", "traffic")
EXPERT_KERNELS = (("Hopper", "fp8"), ("Hopper", "int4"), ("Blackwell", "fp8"), ("Blackwell", "nvfp4"), ("Blackwell", "int4"))
"""Architectures and measured formats whose grouped products have constants of their own."""
OTHER_EXPERTS = ("other", "other")
PER_STEP = ("step_s", "layer_s", "expert_layer_s", "sequence_s", "prefill_step_s", "prefill_layer_s", "prefill_recurrent_layer_s")
NAMES = (
    *(f"{phase}.{name}" for phase in ("decode", "prefill") for name in SCALED),
    *(f"{phase}.experts.{arch}.{format}" for phase in ("decode", "prefill") for arch, format in (*EXPERT_KERNELS, OTHER_EXPERTS)),
    "latency",
    *PER_STEP,
    "request_s",
    "wait_steps",
)
INDEX = {name: i for i, name in enumerate(NAMES)}
METRICS = {
    "ttft_ms": "ttft",
    "tpot_ms": "tpot",
    "decode_tok_s_single_stream": "tpot",
    "prefill_tok_s": "prompt",
    "output_tok_s_total": "output",
    "output_tok_s_per_gpu": "output",
}
"""Metrics of published rows and the time that each is, or is one over."""
NEUTRAL = Overheads(joins=True, step_s=0, layer_s=0, sequence_s=0, element_s=0, source="none: kernels alone")


@dataclass(frozen=True, slots=True)
class Row:
    """One published time in terms: `terms @ constants` predicts `measured_s`."""

    case: PublishedCase
    terms: Vector
    measured_s: float

    @property
    def rate(self) -> bool:
        """Whether the metric is one over the time."""
        return self.case.metric not in ("ttft_ms", "tpot_ms")


def rows_of(cases: Sequence[PublishedCase], workers: int = 2) -> list[Row]:
    """Rows of every case that is simulated as a loop, an offline run or a burst, and whose weights' precision is stated."""
    usable = [case for case in cases if case.configuration is not None and case.precision_stated and case.metric in METRICS]
    settings = cache_friendly_order(dict.fromkeys(case.configuration for case in usable if case.configuration is not None))
    with ProcessPoolExecutor(workers) as pool:
        times = dict(zip(settings, pool.map(times_of, settings, chunksize=20), strict=True))
    rows = []
    for case in usable:
        assert case.configuration is not None
        terms = times[case.configuration].get(METRICS[case.metric])
        if terms is not None and case.measured > 0:
            rows.append(Row(case, terms, _seconds(case, case.configuration.devices)))
    return rows


def _seconds(case: PublishedCase, devices: int) -> float:
    if case.metric in ("ttft_ms", "tpot_ms"):
        return case.measured / 1e3
    return 1 / (case.measured * (devices if case.metric == "output_tok_s_per_gpu" else 1))


def times_of(setting: CaseConfiguration) -> dict[str, Vector]:
    """Terms of every time of a setting; none where it does not fit, or arrives at a rate."""
    try:
        return _times_of(setting)
    except (AdvisorError, UnpredictableCaseError):
        return {}


def _times_of(setting: CaseConfiguration) -> dict[str, Vector]:
    model, engine = find_model(setting.model), load_engine(setting.engine)
    estimator = estimator_for(setting.hardware, engine.name, setting.run.memory_share)
    deployment, workload = deployment_of(setting, model, engine), workload_of(setting)
    capacity = estimator.memory.capacity(deployment, workload)
    if capacity.max_sequences == 0 or workload.load is Load.OPEN:
        return {}
    workload = with_stated_requests(workload, setting, capacity.running_sequences * deployment.parallel.data)
    streams, rules = serving.independent_streams(deployment, estimator.rules(deployment, workload))
    run = LoggedRun(deployment, estimator, rules, workload, streams)
    alone = workload.load is Load.CLOSED and workload.concurrency == 1
    times = run.times(0.0 if alone else rules.wait_steps, waits=not alone)
    times["prompt"] = run.prompt_terms(rules.token_budget)
    return times


class LoggedRun:
    """A simulated run whose steps are logged, so that times between its events can be split into terms."""

    def __init__(self, deployment: Deployment, estimator: Estimator, rules: SchedulerRules, workload: Workload, streams: int) -> None:
        self.deployment, self.workload, self.streams = deployment, workload, streams
        self.pricer = _Pricer(deployment, estimator.machine)
        self.kernels = _kernels(estimator.machine.hardware.id)  # type: ignore[attr-defined]  # published hardware has no profile
        scheduler = _Scheduler(self.pricer, rules)
        if workload.load is Load.BURST:
            self.in_flight = None
            lengths = serving.request_lengths(workload, serving.requests_per_replica(workload, streams))
        else:
            self.in_flight = serving.in_flight_of(workload, rules, streams)
            lengths = serving.closed_loop_lengths(workload, self.in_flight)
        self.done = scheduler.serve(lengths, in_flight=self.in_flight)
        self._nows = [now for now, _, _ in scheduler.log]
        kinds = list(dict.fromkeys(parts for _, parts, _ in scheduler.log))
        index = {parts: i for i, parts in enumerate(kinds)}
        vectors = np.array([self.step_terms(parts) for parts in kinds])
        repeats = np.array([steps for _, _, steps in scheduler.log], dtype=float)
        steps = vectors[[index[parts] for _, parts, _ in scheduler.log]] * repeats[:, None]
        self._until = np.vstack([np.zeros(len(NAMES)), np.cumsum(steps, axis=0)])

    def times(self, wait_steps: float, *, waits: bool) -> dict[str, Vector]:
        """Terms of the mean TTFT and TPOT, and of the seconds per output token of all requests."""
        counted = self.done if self.in_flight is None else serving.counted_requests(self.done, self.in_flight)
        longer = [request for request in counted if request.output > 1]
        times = {}
        tpot = np.zeros(len(NAMES))
        if longer:
            tpot = np.mean([(self._at(request.last_s) - self._at(request.first_s)) / (request.output - 1) for request in longer], axis=0)
            times["tpot"] = tpot
        ttft = np.mean([self._at(request.first_s) - self._at(request.arrival_s) for request in counted], axis=0) + wait_steps * tpot
        ttft[INDEX["request_s"]] = 1.0
        # With the constants as they are: what a waited step takes.
        step_s = [seconds for request in counted if (seconds := request.tpot_s) is not None]
        ttft[INDEX["wait_steps"]] = fmean(step_s) if waits and step_s else 0.0
        times["ttft"] = ttft
        times["output"] = self._per_token() / serving.busy_replicas(self.workload, self.streams)
        return times

    def _per_token(self) -> Vector:
        if self.in_flight is None:
            whole: Vector = self._until[-1] / sum(request.output for request in self.done)
            return whole
        measured = [request for request in self.done if request.number >= self.in_flight] or self.done
        occupied: Vector = np.sum([self._at(request.last_s) - self._at(request.arrival_s) for request in measured], axis=0)
        return occupied / (self.in_flight * sum(request.output for request in measured))

    def prompt_terms(self, token_budget: int) -> Vector:
        """Terms of a prompt token's share of a prefill, as `StepPricer.prefill_rate` counts it."""
        steps = prefill_steps(self.workload.prompt_tokens, self.workload.concurrency or 1, token_budget)
        total: Vector = np.sum([self.step_terms((part,)) for part in steps], axis=0)
        stages = self.deployment.parallel.pipeline
        return total / sum(part.rows for part in steps) / len(steps) / stages * (len(steps) + stages - 1)

    def step_terms(self, parts: tuple[StepPart, ...]) -> Vector:
        """Terms of one step."""
        terms, structure = np.zeros(len(NAMES)), structure_of(self.deployment.model)
        prefills = any(part.phase == Phase.PREFILL for part in parts)
        phase = "prefill" if prefills else "decode"
        for operator in step_operators(self.pricer.blueprint, parts):
            seconds = operator.count * self.kernels.seconds(operator)
            term = term_of(operator)
            if isinstance(operator, Gemm):
                latency = operator.count * self.kernels.latency_s(operator)
                if term == "experts":
                    arch, format = self.kernels.experts(operator.format)
                    term = f"experts.{arch}.{format}"
                terms[INDEX["latency"]] += latency
                seconds -= latency
            terms[INDEX[f"{phase}.{term}"]] += seconds
        layers = len(self.deployment.model.layers)
        counts = {
            "step_s": 1,
            "layer_s": layers,
            "expert_layer_s": structure.expert_layers,
            "sequence_s": sum(part.sequences for part in parts),
            "prefill_step_s": prefills,
            "prefill_layer_s": layers * prefills,
            "prefill_recurrent_layer_s": structure.recurrent_layers * prefills,
        }
        for name, count in counts.items():
            terms[INDEX[name]] = count
        return terms

    def _at(self, seconds: float) -> Vector:
        terms: Vector = self._until[0 if seconds <= 0 else bisect_left(self._nows, seconds - 1e-12) + 1]
        return terms


class _Pricer(StepPricer):
    """Caches the step that was estimated last."""

    last: tuple[StepPart, ...] = ()

    @property
    def blueprint(self) -> Any:
        """The prepared deployment."""
        return self._pricing_model

    def step_s(self, parts: tuple[StepPart, ...]) -> float:
        self.last = parts
        return super().step_s(parts)

    def decode_s(self, sequences: int, context: float) -> float:
        """Without the cache of the base class, which would skip the step."""
        return self.step_s((self.decode_part(sequences, context),)) + self.draft_s(sequences, context)


class _Scheduler(Scheduler):
    """Logs the time after every kind of step, what the step was, and how often it was repeated."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.log: list[tuple[float, tuple[StepPart, ...], int]] = []

    def _advance(self, seconds: float, steps: int) -> None:
        super()._advance(seconds, steps)
        assert isinstance(self._pricer, _Pricer)
        self.log.append((self._now, self._pricer.last, steps))


class _Kernels:
    """Seconds of operators on a device without an engine's overheads."""

    def __init__(self, hardware_id: str) -> None:
        self._machine = CatalogueMachine(load_hardware(hardware_id), NEUTRAL)
        self.seconds = lru_cache(maxsize=1 << 16)(self._seconds)

    def _seconds(self, operator: Operator) -> float:
        return operator_s(self._machine, operator, 0.0)

    def latency_s(self, gemm: Gemm) -> float:
        """Seconds of a product that are latency."""
        return self._machine.latency_s(gemm)

    def experts(self, format: str) -> tuple[str, str]:
        """The constants that grouped products over this format have."""
        kernel = (self._machine.hardware.arch.split()[0], measured_format(self._machine.hardware, format))
        return kernel if kernel in EXPERT_KERNELS else OTHER_EXPERTS


@cache
def _kernels(hardware_id: str) -> _Kernels:
    return _Kernels(hardware_id)


def constants_of(overheads: Overheads) -> Vector:
    """The constants of an engine in the order of the terms."""
    values = np.zeros(len(NAMES))
    for name, index in INDEX.items():
        phase, _, rest = name.partition(".")
        if not rest:
            values[index] = getattr(overheads, name)
            continue
        scales: Scales = getattr(overheads, phase)
        if rest.startswith("experts."):
            _, arch, format = rest.split(".")
            values[index] = overheads.expert_scale(arch, format, phase == "prefill")
        else:
            values[index] = getattr(scales, rest)
    return values


if __name__ == "__main__":
    sys.exit("not a program: see tools/fit_engines.py and tools/cross_validate.py")

"""Predicts published measurements with the one estimator and compares."""

import csv
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from advisor.accuracy import Comparison, ValidationReport, report_of
from advisor.backends.deployment import Attention, Batching, Deployment, KvCache, Parallel, Weights
from advisor.backends.events import OnEvent, Progress
from advisor.estimate.catalogue import CatalogueMachine
from advisor.estimate.estimator import Estimator
from advisor.estimate.operators import structure_of
from advisor.profiles.engines import EngineProfile, load_engine
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.formats import parse_weights
from advisor.profiles.hardware import load_hardware
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.model_store import find_model
from advisor.profiles.models import ModelSpec
from advisor.profiles.request import Load, Workload
from advisor.validate_cases import Case, Setting, UnclearError, read_cases

ROW_COLUMNS = ("case_id", "metric", "measured", "predicted", "low", "high", "basis", "refused")
PROGRESS_EVERY = 50
SMALL_JOB = 200
"""Settings below which starting another process is not worth it."""
GB = 1e9
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Answer:
    """What is predicted of one setting, or why not."""

    metrics: Metrics | None
    prefill_tok_s: Value | None
    devices: int
    model_kind: str
    refused: str = ""


def validate_file(cases: Path, rows: Path | None, on_event: OnEvent | None = None) -> ValidationReport:
    """Predict every row of `cases`, write one line per row to `rows`, and report the errors.

    Raises `AdvisorError`: `bad-cases` for a file that is no table of cases, `cannot-write` for `rows`.
    """
    known = read_cases(cases)
    answers = answer_all(list(dict.fromkeys(case.setting for case in known if case.setting is not None)), on_event)
    compared = [compare(case, answers[case.setting] if case.setting is not None else None) for case in known]
    if rows is not None:
        _write_rows(rows, compared)
    return report_of(str(cases), compared)


def answer_all(settings: list[Setting], on_event: OnEvent | None = None, *, workers: int = 2) -> dict[Setting, Answer]:
    """A prediction for each setting, in two processes where there are many."""
    # Neighbours share models, machines and step prices.
    ordered = sorted(settings, key=lambda s: (s.model, s.engine, s.hardware, s.weights, s.kv, s.tp, s.attention_dp, s.expert_devices))
    answers: dict[Setting, Answer] = {}
    if len(ordered) < SMALL_JOB or workers < 2:
        found: Iterator[Answer] = map(answer, ordered)
        _collect(ordered, found, answers, on_event)
        return answers
    with ProcessPoolExecutor(workers) as pool:
        _collect(ordered, pool.map(answer, ordered, chunksize=PROGRESS_EVERY), answers, on_event)
    return answers


def _collect(ordered: list[Setting], found: Iterator[Answer], answers: dict[Setting, Answer], on_event: OnEvent | None) -> None:
    for done, (setting, one) in enumerate(zip(ordered, found, strict=True), 1):
        answers[setting] = one
        if on_event is not None and (done % PROGRESS_EVERY == 0 or done == len(ordered)):
            on_event(Progress(step="predicting", done=done, total=len(ordered)))


def answer(setting: Setting) -> Answer:
    """Predict one setting; what cannot be predicted is refused with its reason."""
    try:
        model = _model(setting.model)
        engine = load_engine(setting.engine)
        deployment, workload = deployment_of(setting, model, engine), workload_of(setting)
        estimator = _estimator(setting.hardware, setting.engine)
        capacity = estimator.capacity(deployment, workload)
        if capacity.sequences == 0:
            needed, budget = estimator.footprint(deployment, workload).total_bytes(1) / GIB, estimator.budget_bytes / GIB
            return Answer(None, None, setting.devices, _kind(model), f"does not fit: {needed:.0f} GiB a device of {budget:.0f} usable")
        metrics = estimator.metrics(deployment, workload)
        return Answer(metrics, estimator.prefill_rate(deployment, workload), setting.devices, _kind(model))
    except AdvisorError as error:
        return Answer(None, None, setting.devices, "", error.message)
    except UnclearError as error:
        return Answer(None, None, setting.devices, "", str(error))


def deployment_of(setting: Setting, model: ModelSpec, engine: EngineProfile) -> Deployment:
    """The deployment that a row describes; what it leaves out is the engine's default."""
    format, group = parse_weights(setting.weights or model.weight_format)
    kv = setting.kv or engine.kv_format_for(format)
    groups = setting.tp * setting.pp
    data = max(setting.attention_dp, setting.devices // groups)
    if setting.devices % groups or (setting.attention_dp > 1 and setting.attention_dp * groups > setting.devices):
        raise UnclearError(f"{setting.devices} devices in groups of {setting.tp} x {setting.pp}, {setting.attention_dp} replicas")
    wide = setting.attention_dp > 1 and setting.expert_devices > setting.tp
    return Deployment(
        model=model,
        weights=Weights(format, group),
        attention=Attention("sdpa"),
        kv=KvCache("paged", engine.block_tokens, kv),
        batching=Batching("continuous", setting.concurrency or engine.max_sequences, 0),
        parallel=Parallel(tensor=setting.tp, pipeline=setting.pp, data=data, expert=setting.expert_devices if wide else 1),
        engine=engine.name,
    )


def workload_of(setting: Setting) -> Workload:
    """The load that a row describes. A burst is a loop in which nobody follows."""
    load = {"max": Load.OFFLINE, "open": Load.OPEN}.get(setting.load, Load.CLOSED)
    return Workload(
        prompt_tokens=setting.prompt_tokens,
        output_tokens=setting.output_tokens,
        load=load,
        concurrency=setting.concurrency if load is not Load.OPEN else None,
        request_rate_per_s=setting.request_rate if load is Load.OPEN else None,
    )


def compare(case: Case, found: Answer | None) -> Comparison:
    """A row beside its prediction."""
    refused = case.unclear or (found.refused if found else "")
    value = _predicted(case.metric, found) if found is not None and not refused else None
    if value is None and not refused:
        refused = f"no {case.metric} for this load"
    if value is not None and case.measured <= 0:
        value, refused = None, "the measured value is not positive"
    return Comparison(case, value, found.model_kind if found else "", refused)


def _predicted(metric: str, found: Answer) -> Value | None:
    metrics = found.metrics
    if metrics is None:
        return None
    match metric:
        case "ttft_ms":
            return metrics.ttft_ms_mean
        case "tpot_ms":
            return metrics.tpot_ms_mean
        case "output_tok_s_total":
            return metrics.throughput_tok_s
        case "output_tok_s_per_gpu":
            return _times(metrics.throughput_tok_s, 1 / found.devices)
        case "decode_tok_s_single_stream":
            return metrics.decode_tok_s
        case "prefill_tok_s":
            return found.prefill_tok_s
        case "peak_memory_gb":
            return _times(metrics.peak_memory_gib, GIB / GB)
        case _:
            return metrics.max_concurrency


def _times(value: Value | None, factor: float) -> Value | None:
    if value is None:
        return None
    return Value(value=value.value * factor, low=value.low * factor, high=value.high * factor, basis=value.basis)


def _write_rows(path: Path, compared: list[Comparison]) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(ROW_COLUMNS)
            for one in compared:
                value = one.predicted
                numbers = (f"{value.value:.6g}", f"{value.low:.6g}", f"{value.high:.6g}", value.basis.value) if value else ("", "", "", "")
                writer.writerow((one.case.case_id, one.case.metric, f"{one.case.measured:.6g}", *numbers, one.refused))
    except OSError as error:
        raise AdvisorError(
            "cannot-write", f"{path} cannot be written: {(error.strerror or str(error)).lower()}", exit_code=ExitCode.USAGE, file=str(path)
        ) from error


def _kind(model: ModelSpec) -> str:
    parts = ["experts" if structure_of(model).expert_layers else "dense"]
    kinds = {type(mixer).__name__ for mixer, _ in structure_of(model).mixers}
    parts += [word for name, word in (("LatentAttention", "latent"), ("RecurrentMixer", "recurrent")) if name in kinds]
    return " + ".join(parts)


@lru_cache(maxsize=256)
def _model(name: str) -> ModelSpec:
    return find_model(name)


@lru_cache(maxsize=4)
def _estimator(hardware_id: str, engine_name: str) -> Estimator:
    hardware, engine = load_hardware(hardware_id), load_engine(engine_name)
    return Estimator(CatalogueMachine(hardware, engine.cpu if hardware.kind == "cpu" else engine.gpu), engine)

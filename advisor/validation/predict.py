"""Predicts published measurements with the estimator and compares."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import active_children
from pathlib import Path
from time import monotonic

from advisor.backends.deployment import (
    Attention,
    AttentionBackend,
    Batching,
    BatchPolicy,
    DecodeMethod,
    Decoding,
    Deployment,
    KvCache,
    KvLayout,
    Parallel,
    Weights,
)
from advisor.backends.processes.events import OnEvent, Progress
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import catalogue_machine
from advisor.estimate.operators.structure import structure_of
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import EngineProfile, load_engine
from advisor.profiles.errors import AdvisorError
from advisor.profiles.files import write_csv
from advisor.profiles.formats import GIB, parse_weights, weight_format
from advisor.profiles.hardware import load_hardware
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Workload
from advisor.validation.cases import CaseConfiguration, PublishedCase, UnpredictableCaseError
from advisor.validation.errors import ComparedCase

ROW_COLUMNS = ("case_id", "metric", "measured", "predicted", "low", "high", "basis", "refused")
PROGRESS_EVERY = 50
CHUNK = 25
"""Configurations that a process takes at a time; few, so that an interrupt is quick and the processes end together."""
SMALL_JOB = 200
"""Number of configurations below which one process is used."""
SELF_DRAFT = (0.62, (0.45, 0.85))
"""Acceptance of multi-token prediction and its range: 85-90 % of second tokens (DeepSeek-V3 report, 5.4.3); for a third and a fourth
token the same head is used again, and TensorRT-LLM reports 2.2-2.4 tokens a step."""
ENDLESS_ROUNDS = 10
"""Rounds of requests from which filling and draining are negligible."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class CasePrediction:
    """What is predicted for one configuration, or why it is refused."""

    metrics: Metrics | None
    prefill_tok_s: Value | None
    devices: int
    """Devices of the configuration, for rates per device."""
    model_kind: str
    refused: str = ""


def compare_cases(cases: Sequence[PublishedCase], on_event: OnEvent | None = None, *, workers: int = 2) -> list[ComparedCase]:
    """Every case with its prediction."""
    answers = predict_all(
        list(dict.fromkeys(case.configuration for case in cases if case.configuration is not None)), on_event, workers=workers
    )
    return [compare_case(case, answers[case.configuration] if case.configuration is not None else None) for case in cases]


def predict_all(
    configurations: list[CaseConfiguration], on_event: OnEvent | None = None, *, workers: int = 2
) -> dict[CaseConfiguration, CasePrediction]:
    """A prediction for each configuration, in `workers` processes from `SMALL_JOB` configurations on; events tell the progress."""
    ordered = cache_friendly_order(configurations)
    answers: dict[CaseConfiguration, CasePrediction] = {}
    if len(ordered) < SMALL_JOB or workers < 2:
        predictions: Iterator[CasePrediction] = map(predict, ordered)
        _collect(ordered, predictions, answers, on_event)
        return answers
    others = set(active_children())
    with ProcessPoolExecutor(workers, initializer=_leave_interrupts_to_the_parent) as pool:
        try:
            _collect(ordered, pool.map(predict, ordered, chunksize=CHUNK), answers, on_event)
        except BaseException:
            # An interrupt does not wait for running predictions, whose results are discarded.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - others:
                process.terminate()
            raise
    return answers


def cache_friendly_order(configurations: Iterable[CaseConfiguration]) -> list[CaseConfiguration]:
    """Sorted so that configurations that share a model, a machine and step prices are adjacent, for the caches."""
    return sorted(configurations, key=lambda s: (s.model, s.engine, s.hardware, s.weights, s.kv, s.tp, s.attention_dp, s.expert_devices))


def _leave_interrupts_to_the_parent() -> None:
    """Ignore Ctrl-C, which reaches every process of the terminal: a worker that ends by it would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collect(
    ordered: list[CaseConfiguration],
    predictions: Iterator[CasePrediction],
    answers: dict[CaseConfiguration, CasePrediction],
    on_event: OnEvent | None,
) -> None:
    started = monotonic()
    for done, (configuration, prediction) in enumerate(zip(ordered, predictions, strict=True), 1):
        answers[configuration] = prediction
        if on_event is not None and (done % PROGRESS_EVERY == 0 or done == len(ordered)):
            left_s = (monotonic() - started) / done * (len(ordered) - done)
            on_event(Progress(step="predicting", done=done, total=len(ordered), left_s=left_s))


def predict(configuration: CaseConfiguration) -> CasePrediction:
    """Predict one configuration; one that cannot be predicted is refused with the reason."""
    try:
        model = _model(configuration.model)
        engine = load_engine(configuration.engine)
        deployment, workload = deployment_of(configuration, model, engine), workload_of(configuration)
        estimator = estimator_for(configuration.hardware, configuration.engine, configuration.run.memory_share)
        capacity = estimator.memory.capacity(deployment, workload)
        if capacity.max_sequences == 0:
            needed, budget = estimator.memory.footprint(deployment, workload).total_bytes(1) / GIB, estimator.memory.budget_bytes / GIB
            return CasePrediction(
                None, None, configuration.devices, _kind(model), f"does not fit: {needed:.0f} GiB a device of {budget:.0f} usable"
            )
        workload = with_stated_requests(workload, configuration, capacity.running_sequences * deployment.parallel.data)
        metrics = estimator.metrics(deployment, workload)
        return CasePrediction(metrics, estimator.prefill_rate(deployment, workload), configuration.devices, _kind(model))
    except AdvisorError as error:
        return CasePrediction(None, None, configuration.devices, "", error.message)
    except UnpredictableCaseError as error:
        return CasePrediction(None, None, configuration.devices, "", str(error))


def deployment_of(configuration: CaseConfiguration, model: ModelSpec, engine: EngineProfile) -> Deployment:
    """The deployment of a configuration; what it does not state is the engine's default."""
    format, group = parse_weights(configuration.weights) if configuration.weights else (model.weight_format, None)
    run = configuration.run
    kv = configuration.kv or run.kv or _usual_cache(configuration, model, engine, format)
    prompt, output = _lengths(configuration)
    return Deployment(
        model=model,
        weights=replace(_weights(model, format, group), plain_format=engine.loading.plain_formats.get(format)),
        attention=Attention(AttentionBackend(engine.attention)),
        kv=KvCache(KvLayout.PAGED, engine.block_tokens, kv),
        batching=Batching(
            BatchPolicy.CONTINUOUS,
            configuration.concurrency or engine.max_sequences,
            run.token_budget or 0,
            run.wait_steps(configuration.concurrency, prompt, output),
        ),
        decoding=Decoding(DecodeMethod.DRAFT, run.draft_tokens, *SELF_DRAFT) if run.draft_tokens else Decoding(),
        parallel=_parallel(configuration),
        engine=engine.name,
    )


def _usual_cache(configuration: CaseConfiguration, model: ModelSpec, engine: EngineProfile, format: str) -> str:
    """The cache of published runs that state none: the engine's default, or that of its own quantised checkpoints."""
    if format in ("fp8", "nvfp4") and engine.kv_with_quantised != "bf16":
        return engine.kv_with_quantised
    return engine.auto_cache(model, format, load_hardware(configuration.hardware).arch)[0]


def _weights(model: ModelSpec, format: str, group: int | None) -> Weights:
    """The weights; attention is bf16 in 4-bit checkpoints of models with experts (ignore lists of NVIDIA's NVFP4, Kimi, gpt-oss)."""
    if format != model.weight_format and structure_of(model).expert_layers and weight_format(format).bits <= 4:
        return Weights(format, group, frozenset({"embedding", "head", "attention"}), "bf16")
    return Weights(format, group)


def _parallel(configuration: CaseConfiguration) -> Parallel:
    tp, pp, devices = configuration.tp, configuration.pp, configuration.devices
    groups = tp * pp
    data = max(configuration.attention_dp, devices // groups)
    if devices % groups or (configuration.attention_dp > 1 and configuration.attention_dp * groups > devices):
        raise UnpredictableCaseError(f"{devices} devices in groups of {tp} x {pp}, {configuration.attention_dp} replicas")
    if configuration.run.attention_dp:
        replicas = max(int(devices * configuration.run.decode_share) // pp, 1)
        return Parallel(pipeline=pp, data=replicas, expert=replicas)
    wide = configuration.attention_dp > 1 and configuration.expert_devices > tp
    return Parallel(tensor=tp, pipeline=pp, data=data, expert=configuration.expert_devices if wide else 1)


def _lengths(configuration: CaseConfiguration) -> tuple[int, int]:
    """Mean prompt and output length; some scripts draw them from a range below the stated ones."""
    share = configuration.run.length_share
    return max(round(share * configuration.prompt_tokens), 1), max(round(share * configuration.output_tokens), 1)


def workload_of(configuration: CaseConfiguration) -> Workload:
    """The workload of a configuration."""
    load = configuration.load
    if configuration.run.static and load is Load.CLOSED:
        load = Load.BURST  # one batch, no later arrivals
    prompt, output = _lengths(configuration)
    spread = {} if configuration.run.length_spread is None else {"length_spread": configuration.run.length_spread}
    return Workload(
        prompt_tokens=prompt,
        output_tokens=output,
        load=load,
        concurrency=configuration.concurrency if load is not Load.OPEN else None,
        request_rate_per_s=configuration.request_rate if load is Load.OPEN else None,
        **spread,
    )


def with_stated_requests(workload: Workload, configuration: CaseConfiguration, running: int) -> Workload:
    """An offline run with its number of requests, where they are few enough that filling and draining matter; else as it is.

    `running` is the number of sequences that fit.
    """
    requests = configuration.run.requests
    if workload.load is not Load.OFFLINE or requests is None or requests > ENDLESS_ROUNDS * running:
        return workload
    return workload.model_copy(update={"load": Load.BURST, "concurrency": requests})


def compare_case(case: PublishedCase, prediction: CasePrediction | None) -> ComparedCase:
    """A case with its prediction."""
    refused = case.unclear or (prediction.refused if prediction else "")
    value = _predicted(case.metric, prediction) if prediction is not None and not refused else None
    if value is None and not refused:
        refused = f"no {case.metric} for this load"
    if value is not None and case.measured <= 0:
        value, refused = None, "the measured value is not positive"
    return ComparedCase(case, value, prediction.model_kind if prediction else "", refused)


def _predicted(metric: str, prediction: CasePrediction) -> Value | None:
    metrics = prediction.metrics
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
            return metrics.throughput_tok_s and metrics.throughput_tok_s.scaled(1 / prediction.devices)
        case "decode_tok_s_single_stream":
            return metrics.decode_tok_s
        case "prefill_tok_s":
            return prediction.prefill_tok_s
        case "peak_memory_gb":
            return metrics.peak_memory_gib and metrics.peak_memory_gib.scaled(GIB / GB)
        case _:
            return metrics.max_concurrency


def write_rows(path: Path, compared: list[ComparedCase]) -> None:
    """Write a CSV table with one line per case; raises as `write_whole` does."""
    lines = []
    for item in compared:
        value = item.predicted
        numbers = (f"{value.value:.6g}", f"{value.low:.6g}", f"{value.high:.6g}", value.basis.value) if value else ("", "", "", "")
        lines.append((item.case.case_id, item.case.metric, f"{item.case.measured:.6g}", *numbers, item.refused))
    write_csv(path, ROW_COLUMNS, lines)


def _kind(model: ModelSpec) -> str:
    parts = ["experts" if structure_of(model).expert_layers else "dense"]
    kinds = {type(mixer).__name__ for mixer, _ in structure_of(model).mixers}
    parts += [word for name, word in (("LatentAttention", "latent"), ("RecurrentMixer", "recurrent")) if name in kinds]
    return " + ".join(parts)


@lru_cache(maxsize=256)
def _model(name: str) -> ModelSpec:
    return find_model(name)


@lru_cache(maxsize=4)
def estimator_for(hardware_id: str, engine_name: str, memory_share: float | None) -> Estimator:
    """The estimator of an engine on a catalogue device; `memory_share` replaces the engine's own share of memory.

    Raises `AdvisorError` `hardware-not-found` or `engine-not-found`.
    """
    hardware, engine = load_hardware(hardware_id), load_engine(engine_name)
    if memory_share is not None:
        engine = engine.model_copy(update={"memory_share": memory_share})
    return Estimator(catalogue_machine(hardware, engine), engine)

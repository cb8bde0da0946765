"""Predicts published measurements with the one estimator and compares."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
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
from advisor.validation.cases import PublishedCase, RunSetting, UnclearError
from advisor.validation.errors import ComparedCase

ROW_COLUMNS = ("case_id", "metric", "measured", "predicted", "low", "high", "basis", "refused")
PROGRESS_EVERY = 50
CHUNK = 25
"""Settings that a process takes at a time: few enough that a stop is soon, and that neither process ends long before the other."""
SMALL_JOB = 200
"""Settings below which starting another process is not worth it."""
SELF_DRAFT = (0.62, (0.45, 0.85))
"""Acceptance of tokens that DeepSeek's own head drafts (85-90 % of second tokens: DeepSeek-V3 report 5.4.3; used again for a third
and a fourth, TensorRT-LLM reports 2.2-2.4 tokens a step) and its range."""
ENDLESS_ROUNDS = 10
"""Rounds of requests from which a run is as good as endless."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class Answer:
    """What is predicted of one setting, or why not."""

    metrics: Metrics | None
    prefill_tok_s: Value | None
    devices: int
    model_kind: str
    refused: str = ""


def compare_all(cases: Sequence[PublishedCase], on_event: OnEvent | None = None, *, workers: int = 2) -> list[ComparedCase]:
    """Every case beside its prediction."""
    answers = answer_all(list(dict.fromkeys(case.setting for case in cases if case.setting is not None)), on_event, workers=workers)
    return [compare(case, answers[case.setting] if case.setting is not None else None) for case in cases]


def answer_all(settings: list[RunSetting], on_event: OnEvent | None = None, *, workers: int = 2) -> dict[RunSetting, Answer]:
    """A prediction for each setting, in two processes where there are many."""
    ordered = as_neighbours(settings)
    answers: dict[RunSetting, Answer] = {}
    if len(ordered) < SMALL_JOB or workers < 2:
        found: Iterator[Answer] = map(answer, ordered)
        _collect(ordered, found, answers, on_event)
        return answers
    others = set(active_children())
    with ProcessPoolExecutor(workers, initializer=_leave_interrupts_to_the_parent) as pool:
        try:
            _collect(ordered, pool.map(answer, ordered, chunksize=CHUNK), answers, on_event)
        except BaseException:
            # Whoever stops does not wait for what is at work: nothing of it is kept.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - others:
                process.terminate()
            raise
    return answers


def as_neighbours(settings: Iterable[RunSetting]) -> list[RunSetting]:
    """Sorted so that those follow one another that share a model, a machine and prices of steps."""
    return sorted(settings, key=lambda s: (s.model, s.engine, s.hardware, s.weights, s.kv, s.tp, s.attention_dp, s.expert_devices))


def _leave_interrupts_to_the_parent() -> None:
    """Ctrl-C reaches every process of the terminal; a worker that dies of it would print its own trace."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collect(ordered: list[RunSetting], found: Iterator[Answer], answers: dict[RunSetting, Answer], on_event: OnEvent | None) -> None:
    started = monotonic()
    for done, (setting, one) in enumerate(zip(ordered, found, strict=True), 1):
        answers[setting] = one
        if on_event is not None and (done % PROGRESS_EVERY == 0 or done == len(ordered)):
            left_s = (monotonic() - started) / done * (len(ordered) - done)
            on_event(Progress(step="predicting", done=done, total=len(ordered), left_s=left_s))


def answer(setting: RunSetting) -> Answer:
    """Predict one setting; what cannot be predicted is refused with its reason."""
    try:
        model = _model(setting.model)
        engine = load_engine(setting.engine)
        deployment, workload = deployment_of(setting, model, engine), workload_of(setting)
        estimator = estimator_for(setting.hardware, setting.engine, setting.run.memory_share)
        capacity = estimator.capacity(deployment, workload)
        if capacity.max_sequences == 0:
            needed, budget = estimator.footprint(deployment, workload).total_bytes(1) / GIB, estimator.budget_bytes / GIB
            return Answer(None, None, setting.devices, _kind(model), f"does not fit: {needed:.0f} GiB a device of {budget:.0f} usable")
        workload = as_run(workload, setting, capacity.running_sequences * deployment.parallel.data)
        metrics = estimator.metrics(deployment, workload)
        return Answer(metrics, estimator.prefill_rate(deployment, workload), setting.devices, _kind(model))
    except AdvisorError as error:
        return Answer(None, None, setting.devices, "", error.message)
    except UnclearError as error:
        return Answer(None, None, setting.devices, "", str(error))


def deployment_of(setting: RunSetting, model: ModelSpec, engine: EngineProfile) -> Deployment:
    """The deployment that a row describes; what it leaves out is the engine's default."""
    format, group = parse_weights(setting.weights or model.weight_format)
    run, kv = setting.run, setting.kv or setting.run.kv or engine.kv_format_for(format)
    prompt, output = _lengths(setting)
    return Deployment(
        model=model,
        weights=_weights(model, format, group),
        attention=Attention(AttentionBackend(engine.attention)),
        kv=KvCache(KvLayout.PAGED, engine.block_tokens, kv),
        batching=Batching(
            BatchPolicy.CONTINUOUS,
            setting.concurrency or engine.max_sequences,
            run.token_budget or 0,
            run.wait_steps(setting.concurrency, prompt, output),
        ),
        decoding=Decoding(DecodeMethod.DRAFT, run.draft_tokens, *SELF_DRAFT) if run.draft_tokens else Decoding(),
        parallel=_parallel(setting),
        engine=engine.name,
    )


def _weights(model: ModelSpec, format: str, group: int | None) -> Weights:
    """Published 4-bit checkpoints of models with experts leave attention in bf16 (ignore lists of NVIDIA's NVFP4 ones, Kimi, gpt-oss)."""
    if format != model.weight_format and structure_of(model).expert_layers and weight_format(format).bits <= 4:
        return Weights(format, group, frozenset({"embedding", "head", "attention"}), "bf16")
    return Weights(format, group)


def _parallel(setting: RunSetting) -> Parallel:
    tp, pp, devices = setting.tp, setting.pp, setting.devices
    groups = tp * pp
    data = max(setting.attention_dp, devices // groups)
    if devices % groups or (setting.attention_dp > 1 and setting.attention_dp * groups > devices):
        raise UnclearError(f"{devices} devices in groups of {tp} x {pp}, {setting.attention_dp} replicas")
    if setting.run.attention_dp:
        replicas = max(int(devices * setting.run.decode_share) // pp, 1)
        return Parallel(pipeline=pp, data=replicas, expert=replicas)
    wide = setting.attention_dp > 1 and setting.expert_devices > tp
    return Parallel(tensor=tp, pipeline=pp, data=data, expert=setting.expert_devices if wide else 1)


def _lengths(setting: RunSetting) -> tuple[int, int]:
    """Mean prompt and answer of a run whose script draws them from a range below the stated ones."""
    share = setting.run.length_share
    return max(round(share * setting.prompt_tokens), 1), max(round(share * setting.output_tokens), 1)


def workload_of(setting: RunSetting) -> Workload:
    """The load that a row describes."""
    load = {"max": Load.OFFLINE, "open": Load.OPEN, "burst": Load.BURST}.get(setting.load, Load.CLOSED)
    if setting.run.static and load is Load.CLOSED:
        load = Load.BURST  # one batch: nobody follows
    prompt, output = _lengths(setting)
    spread = {} if setting.run.length_spread is None else {"length_spread": setting.run.length_spread}
    return Workload(
        prompt_tokens=prompt,
        output_tokens=output,
        load=load,
        concurrency=setting.concurrency if load is not Load.OPEN else None,
        request_rate_per_s=setting.request_rate if load is Load.OPEN else None,
        **spread,
    )


def as_run(workload: Workload, setting: RunSetting, running: int) -> Workload:
    """An offline run of so few requests that filling up and draining count; more are as good as endless."""
    requests = setting.run.requests
    if workload.load is not Load.OFFLINE or requests is None or requests > ENDLESS_ROUNDS * running:
        return workload
    return workload.model_copy(update={"load": Load.BURST, "concurrency": requests})


def compare(case: PublishedCase, found: Answer | None) -> ComparedCase:
    """A row beside its prediction."""
    refused = case.unclear or (found.refused if found else "")
    value = _predicted(case.metric, found) if found is not None and not refused else None
    if value is None and not refused:
        refused = f"no {case.metric} for this load"
    if value is not None and case.measured <= 0:
        value, refused = None, "the measured value is not positive"
    return ComparedCase(case, value, found.model_kind if found else "", refused)


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
            return metrics.throughput_tok_s and metrics.throughput_tok_s.scaled(1 / found.devices)
        case "decode_tok_s_single_stream":
            return metrics.decode_tok_s
        case "prefill_tok_s":
            return found.prefill_tok_s
        case "peak_memory_gb":
            return metrics.peak_memory_gib and metrics.peak_memory_gib.scaled(GIB / GB)
        case _:
            return metrics.max_concurrency


def write_rows(path: Path, compared: list[ComparedCase]) -> None:
    """One line per case."""
    lines = []
    for one in compared:
        value = one.predicted
        numbers = (f"{value.value:.6g}", f"{value.low:.6g}", f"{value.high:.6g}", value.basis.value) if value else ("", "", "", "")
        lines.append((one.case.case_id, one.case.metric, f"{one.case.measured:.6g}", *numbers, one.refused))
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
    """An engine on a device by its data sheet, with the share of the memory that a run gave it; `None` leaves the engine's own.

    Raises `AdvisorError` `hardware-not-found` or `engine-not-found`.
    """
    hardware, engine = load_hardware(hardware_id), load_engine(engine_name)
    if memory_share is not None:
        engine = engine.model_copy(update={"memory_share": memory_share})
    return Estimator(catalogue_machine(hardware, engine), engine)

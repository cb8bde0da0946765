"""The estimate of one explicit way to run a model, without a search."""

from collections.abc import Iterator
from dataclasses import dataclass

from advisor.backends.deployment import Attention, AttentionBackend, Batching, BatchPolicy, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.estimator import Estimator
from advisor.estimate.uncertainty.domain import extrapolation_warning
from advisor.planning.layouts import layout_warnings
from advisor.planning.question import EstimateQuestion, workload_of
from advisor.planning.search import parallel_layouts
from advisor.planning.target import Target
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import EngineProfile
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.formats import GIB, check_cache_format, parse_weights
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Workload
from advisor.quantities.formatting import quantity


@dataclass(frozen=True, slots=True)
class Estimate:
    """The predicted metrics of one explicit stack."""

    metrics: Metrics
    extrapolation_warning: str | None
    """Why the ranges are wider: how the setting differs from every measurement that predictions were compared with."""
    kv_format: str
    """Format of the KV cache."""
    layout: str
    """How the model is spread over the devices."""
    assumptions: tuple[str, ...] = ()
    """What was decided where the question leaves it open, a sentence each."""
    warnings: tuple[str, ...] = ()
    """Reasons why this stack could not be run as priced, a sentence each."""


def estimate_explicit(question: EstimateQuestion, model: ModelSpec, engine: EngineProfile, target: Target) -> Estimate:
    """Predict the metrics of the deployment that a question describes. Raises as `explicit_deployment` and `workload_of` do."""
    workload = explicit_workload(question)
    kv_format, reason = cache_of(question, model, engine, target.hardware.arch)
    tensor = question.tp or default_tensor_degree(model, target.hardware, question.devices // question.pp)
    deployment = explicit_deployment(model, engine, question, workload, kv_format, tensor)
    estimator = Estimator(target.machine, engine)
    times = estimator.simulate(deployment, workload)
    rate = estimator.goodput(deployment, workload, times, question.all_limits)
    metrics = estimator.metrics_of(deployment, workload, times).model_copy(update={"goodput_per_s": rate})
    warnings = (
        *model.warnings,
        *_unsupported(engine, deployment),
        *_warnings(model, workload, metrics),
        *_does_not_fit(estimator, deployment, workload),
        *layout_warnings(deployment.parallel, target.hardware, workload),
    )
    outside = extrapolation_warning(estimator.machine.basis, deployment, workload)
    return Estimate(
        metrics, outside, kv_format, deployment.parallel.words, (*_assumptions(kv_format, reason), *engine.tower_words(model)), warnings
    )


def cache_of(question: EstimateQuestion, model: ModelSpec, engine: EngineProfile, arch: str) -> tuple[str, str | None]:
    """The format of the KV cache on a GPU architecture, and why it was chosen; `None` where the question states it.

    Raises `AdvisorError` `unknown-format` for a format that no cache has.
    """
    if question.kv:
        return check_cache_format(question.kv), None
    format, _ = parse_weights(question.weights or model.weight_format)
    return engine.auto_cache(model, format, arch)


def _assumptions(kv_format: str, reason: str | None) -> Iterator[str]:
    if reason is not None:
        yield f"KV cache in {kv_format}: {reason}; --kv sets another format"


def explicit_workload(question: EstimateQuestion) -> Workload:
    """The workload of a question. Raises as `workload_of` does."""
    return workload_of(
        question.prompt_tokens or 1,
        question.output_tokens or 1,
        concurrency=question.concurrency,
        request_rate_per_s=question.request_rate_per_s,
        burst=question.burst,
        trace=question.trace,
        offline=question.offline_load,
        shared_prefix_tokens=question.shared_prefix_tokens,
    )


def default_tensor_degree(model: ModelSpec, hardware: Hardware, devices: int) -> int:
    """The largest tensor-parallel group that divides the devices and fits in one machine: what engines are started with."""
    degrees = [layout.tensor for layout in parallel_layouts(model, devices) if layout.tensor <= hardware.devices_of_a_machine]
    return max(degrees, default=1)


def explicit_deployment(
    model: ModelSpec, engine: EngineProfile, question: EstimateQuestion, workload: Workload, kv_format: str, tensor: int = 1
) -> Deployment:  # fmt: skip
    """The deployment that a question describes, else as engines run by default: paged cache, fused attention, continuous batching.

    Raises `AdvisorError` `usage` for a parallel layout that does not divide the devices, the hidden size or the layers.
    """
    format, group = parse_weights(question.weights) if question.weights else (model.weight_format, None)
    shards = tensor * question.pp
    if question.devices % shards:
        raise AdvisorError(
            "usage",
            f"{question.devices} devices cannot be split into groups of {tensor} x {question.pp}",
            exit_code=ExitCode.USAGE,
            help=(f"write --devices {shards} or a multiple of it",),
            field="devices",
            action=ErrorAction.CHOOSE,
            value=shards,
        )
    if model.hidden_size % tensor or question.pp > len(model.layers):
        raise AdvisorError(
            "usage",
            f"{model.id} cannot be split: hidden size {model.hidden_size} by --tp {tensor}, "
            f"{len(model.layers)} layers by --pp {question.pp}",
            exit_code=ExitCode.USAGE,
            help=("choose a --tp that divides the hidden size and no more --pp than layers",),
            field="tp" if model.hidden_size % tensor else "pp",
            action=ErrorAction.LOWER,
        )
    prefix_reuse = engine.prefix_reuse and workload.shared_prefix_tokens is not None
    return Deployment(
        model=model,
        weights=Weights(format, group, plain_format=engine.loading.plain_formats.get(format)),
        attention=Attention(AttentionBackend.SDPA),
        kv=KvCache(KvLayout.PAGED, engine.block_tokens, kv_format, prefix_reuse=prefix_reuse),
        batching=Batching(BatchPolicy.CONTINUOUS, workload.concurrency or engine.max_sequences, 0),
        parallel=Parallel(tensor=tensor, pipeline=question.pp, data=question.devices // shards),
        engine=engine.name,
    )


def _does_not_fit(estimator: Estimator, deployment: Deployment, workload: Workload) -> Iterator[str]:
    """That not even one request fits in memory, with what it needs and what the engine reserves for it besides."""
    memory = estimator.memory
    if memory.max_sequences(deployment, workload):
        return
    footprint = memory.footprint(deployment, workload)
    reserved, usable = footprint.reserved_bytes[0], memory.usable_bytes(footprint)
    needed = quantity(footprint.reserving().total_bytes(1) / GIB, "GiB")
    windows = f", {quantity(reserved / GIB, 'GiB')} of it reserved for the windows of a step" if reserved else ""
    yield (
        f"one request does not fit: it needs {needed} on each device{windows}, of which "
        f"{quantity(usable / GIB, 'GiB')} are usable; the times assume that it fits"
    )


def _warnings(model: ModelSpec, workload: Workload, metrics: Metrics) -> Iterator[str]:
    """Reasons why the priced stack could not be run, or could not sustain the load, a sentence each."""
    if workload.longest_tokens > model.max_context_tokens:
        yield f"{model.id} supports {model.max_context_tokens} tokens of context; the workload needs {workload.longest_tokens}"
    rate, sustained = workload.request_rate_per_s, metrics.request_rate_per_s
    if rate is not None and sustained is not None and sustained.value < rate:
        yield (
            f"requests arrive faster than the {quantity(sustained.value, 'req/s')} that can be sustained: the queue and the waiting time "
            "grow without bound"
        )


def _unsupported(engine: EngineProfile, deployment: Deployment) -> Iterator[str]:
    """The formats of the stack that the engine is not known to support."""
    yield from engine.weight_warnings(deployment.weights.format)
    if deployment.kv.format not in (*engine.kv_formats, "fp16"):  # every engine supports a 16-bit cache
        yield f"{engine.full_name} is not known to support a KV cache in {deployment.kv.format}; the numbers assume that it does"

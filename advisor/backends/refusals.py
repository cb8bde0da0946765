"""Reasons to refuse that several techniques share."""

from advisor.backends.deployment import Deployment, KvLayout
from advisor.profiles.architectures.layers import LatentAttention, SelfAttention
from advisor.profiles.engines import load_engine
from advisor.profiles.request import Load, Request


def not_quantisable(deployment: Deployment, format: str) -> str | None:
    """Why this engine cannot store this checkpoint's weights in `format`."""
    native = deployment.model.weight_format
    if native not in ("bf16", "fp16", "fp32"):
        return f"The checkpoint is already in {native}; a second rounding would add to the first."
    engine = load_engine(deployment.engine)
    if not engine.runs(format):
        return f"{engine.name} {engine.versions} does not run {format} weights."
    return None


def head_not_quantisable(deployment: Deployment) -> str | None:
    """Why the output head cannot be stored in few bits too."""
    if deployment.model.head is None:
        return "The output head is the embedding, which stays as it is; only a head of its own can be rounded."
    engine = load_engine(deployment.engine)
    return None if engine.rounds_head else f"{engine.name} {engine.versions} keeps the output head as it is."


def not_cacheable(deployment: Deployment, format: str) -> str | None:
    """Why keys and values cannot be kept in `format`: a latent cache, an engine without the format, no cache at all."""
    latent = next((layer.mixer for layer in deployment.model.layers if isinstance(layer.mixer, LatentAttention)), None)
    if latent is not None:
        return f"The cache is latent: {latent.kv_rank} + {latent.rope_dim} elements a token already; {format} scales per head do not apply."
    engine = load_engine(deployment.engine)
    if format not in engine.kv_formats:
        return f"{engine.name} {engine.versions} has no {format} cache, only {', '.join(engine.kv_formats)}."
    return without_attention(deployment)


def without_attention(deployment: Deployment) -> str | None:
    """Why a technique of attention or its cache does not apply."""
    if deployment.model.attention_layers:
        return None
    return f"The model has no softmax attention in its {len(deployment.model.layers)} layers."


def not_narrowed(request: Request, deployment: Deployment, name: str, seen: int) -> str | None:
    """Why no token should see or keep only `seen` of the others by the technique `name`."""
    engine, context = load_engine(deployment.engine), request.workload.longest_tokens
    if name not in engine.narrows:
        return f"{engine.name} {engine.versions} does not run {name}."
    if context <= seen:
        fewer = f" For fewer, write --require {name}:window={max(context // 4, 1)}." if request.requires(name) else ""
        return f"No sequence is longer than {context:,} tokens; {seen:,} would be kept of it.{fewer}"
    if not request.requires(name):
        return f"Of {context:,} tokens it forgets {context - seen:,}; it is taken only where it is required by name: --require {name}."
    return None


def not_evictable(deployment: Deployment) -> str | None:
    """Why blocks cannot leave this cache."""
    if deployment.kv.layout != KvLayout.PAGED:
        return "A contiguous cache has no blocks to give back: it needs kv-paged."
    if deployment.attention.window is not None:
        return f"Every layer sees {deployment.attention.window:,} tokens already, and the cache keeps no more."
    if deployment.attention.pattern is not None:
        return "A pattern of blocks may see any token again: nothing can be given back."
    return None


def own_window(deployment: Deployment) -> int | None:
    """The longest window of the model's layers, in tokens; `None` where one of them sees everything."""
    mixers = [layer.mixer for layer in deployment.model.attention_layers]
    windows = [mixer.window for mixer in mixers if isinstance(mixer, SelfAttention | LatentAttention)]
    return None if None in windows else max((window for window in windows if window is not None), default=None)


def not_speculative(request: Request, deployment: Deployment, method: str) -> str | None:
    """Why proposed tokens cannot be verified here."""
    recurrent = len(deployment.model.recurrent_layers)
    if recurrent:
        return f"{recurrent} layers keep a recurrent state, which cannot be rolled back when a proposal is rejected."
    if request.workload.output_tokens < 2:
        return "Only one token is wanted; there is nothing to speculate on."
    engine = load_engine(deployment.engine)
    if method not in engine.decoding:
        return f"{engine.name} {engine.versions} does not decode by {method}."
    return None


def nothing_to_batch(request: Request, deployment: Deployment, step_tokens: int) -> str | None:
    """Why batches that change at every step, of so many tokens, gain nothing."""
    workload = request.workload
    if workload.load is Load.CLOSED and workload.concurrency == 1:
        return "Only one request is in flight: there is nothing to batch it with."
    positions = deployment.decoding_positions
    if positions >= step_tokens:
        return f"{positions} decoding positions leave nothing of a step of {step_tokens} tokens for prompts."
    return None


def attention_not_ours(deployment: Deployment) -> str | None:
    """Why the engine's attention kernels cannot be chosen."""
    engine = load_engine(deployment.engine)
    return None if engine.chooses_attention else f"{engine.name} {engine.versions} chooses its attention kernels by its own rules."

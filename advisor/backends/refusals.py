"""Reasons to refuse that several techniques share. Each function returns a sentence for the user, or `None` where it has no objection."""

from advisor.backends.deployment import Deployment, KvLayout
from advisor.profiles.architectures.layers import LatentAttention, SelfAttention
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import DTYPES
from advisor.profiles.request import Load, Request


def not_quantisable(deployment: Deployment, format: str) -> str | None:
    """Why the engine cannot store the checkpoint's weights in `format`."""
    native = deployment.model.weight_format
    if native not in ("bf16", "fp16", "fp32"):
        return f"The checkpoint is already in {native}; quantising it again would add a second rounding error."
    engine = load_engine(deployment.engine)
    if not engine.runs(format):
        return f"{engine.name} {engine.versions} does not run {format} weights."
    return None


def dtype_not_chosen(request: Request, deployment: Deployment, dtype: str) -> str | None:
    """Why activations are not computed in `dtype`: a quantised checkpoint, the engine, or a device on which it gains nothing."""
    own, choices = deployment.model.weight_format, deployment.device_dtypes
    if own not in DTYPES:
        return f"The checkpoint is in {own}, which states the type of its activations."
    engine = load_engine(deployment.engine)
    if not engine.runs(dtype):
        return f"{engine.name} {engine.versions} does not run {dtype} weights."
    name = f"dtype-{dtype}"
    if not choices or dtype in choices[1:] or request.requires(name):
        return None
    if dtype == choices[0]:
        return f"The model runs in {dtype} already, the fastest type of this device."
    better = choices[-1] if dtype != "fp32" else choices[0]
    gain = "half the bytes" if dtype == "fp32" else "as many bytes"
    return f"{better} is at least as fast on this device, in {gain}; {dtype} is used only where it is required by name: --require {name}."


def head_not_quantisable(deployment: Deployment) -> str | None:
    """Why the output head cannot be quantised."""
    if deployment.model.head is None:
        return "The output head is tied to the embedding, which is not quantised."
    engine = load_engine(deployment.engine)
    return None if engine.rounds_head else f"{engine.name} {engine.versions} does not quantise the output head."


def not_cacheable(deployment: Deployment, format: str) -> str | None:
    """Why keys and values cannot be stored in `format`: a latent cache, an engine without the format, no cache at all."""
    latent = next((layer.mixer for layer in deployment.model.layers if isinstance(layer.mixer, LatentAttention)), None)
    if latent is not None:
        return f"The cache is latent (MLA), {latent.kv_rank} + {latent.rope_dim} elements a token: {format} scales per head do not apply."
    engine = load_engine(deployment.engine)
    if format not in engine.kv_formats:
        return f"{engine.name} {engine.versions} has no {format} cache, only {', '.join(engine.kv_formats)}."
    return without_attention(deployment)


def without_attention(deployment: Deployment) -> str | None:
    """Why techniques of attention and of the KV cache do not apply: the model has no softmax attention."""
    if deployment.model.attention_layers:
        return None
    return f"The model has no softmax attention in its {len(deployment.model.layers)} layers."


def not_narrowed(request: Request, deployment: Deployment, name: str, seen: int) -> str | None:
    """Why the technique `name`, with which a token attends to at most `seen` tokens, is not applied.

    It changes what the model computes, so that it is applied only where the request names it.
    """
    engine, context = load_engine(deployment.engine), request.workload.longest_tokens
    if name not in engine.narrows:
        return f"{engine.name} {engine.versions} does not run {name}."
    if context <= seen:
        fewer = f" For fewer, write --require {name}:window={max(context // 4, 1)}." if request.requires(name) else ""
        return f"No sequence is longer than {context:,} tokens; each token attends to up to {seen:,} of them already.{fewer}"
    if not request.requires(name):
        return f"It attends to at most {seen:,} of {context:,} tokens; it is used only where it is required by name: --require {name}."
    return None


def not_evictable(deployment: Deployment) -> str | None:
    """Why blocks of this cache cannot be evicted."""
    if deployment.kv.layout != KvLayout.PAGED:
        return "Eviction frees blocks, and a contiguous cache has none: it needs kv-paged."
    if deployment.attention.window is not None:
        return f"Every layer attends to {deployment.attention.window:,} tokens only, and the cache retains no more."
    if deployment.attention.pattern is not None:
        return "Under a block-sparse pattern, later tokens may attend to any earlier one: no block can be evicted."
    return None


def own_window(deployment: Deployment) -> int | None:
    """The longest attention window of the model's layers, in tokens; `None` where a layer has full attention."""
    mixers = [layer.mixer for layer in deployment.model.attention_layers]
    windows = [mixer.window for mixer in mixers if isinstance(mixer, SelfAttention | LatentAttention)]
    return None if None in windows else max((window for window in windows if window is not None), default=None)


def not_speculative(request: Request, deployment: Deployment, method: str) -> str | None:
    """Why speculative decoding by `method` does not apply."""
    recurrent = len(deployment.model.recurrent_layers)
    if recurrent:
        return f"{recurrent} layers keep a recurrent state, which cannot be rolled back when a draft token is rejected."
    if request.workload.output_tokens < 2:
        return "Only one output token is generated; there is nothing to speculate on."
    engine = load_engine(deployment.engine)
    if method not in engine.decoding:
        return f"{engine.name} {engine.versions} does not decode by {method}."
    return None


def nothing_to_batch(request: Request, deployment: Deployment, step_tokens: int) -> str | None:
    """Why continuous batching in steps of `step_tokens` tokens gains nothing."""
    workload = request.workload
    if workload.load is Load.CLOSED and workload.concurrency == 1:
        return "Only one request is in flight: there is nothing to batch it with."
    positions = deployment.decoding_positions
    if positions >= step_tokens:
        return f"{positions} decoding positions fill a step of {step_tokens} tokens and leave no room for prompts."
    return None


def attention_not_ours(deployment: Deployment) -> str | None:
    """Why the attention backend cannot be chosen: the engine does that itself."""
    engine = load_engine(deployment.engine)
    return None if engine.chooses_attention else f"{engine.name} {engine.versions} chooses its attention kernels itself."

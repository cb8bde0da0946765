"""Models as text: one with its layers, or many as a table."""

from collections import Counter
from collections.abc import Sequence

from advisor.profiles.architectures.layers import LatentAttention, Layer, RecurrentMixer, SelfAttention
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.architectures.towers import Tower
from advisor.profiles.formats import GIB
from advisor.quantities.formatting import number, quantity
from advisor.rendering.text.style import Look, wrap
from advisor.rendering.text.table import Column, Group, table

_BF16_BYTES = 2


def model_text(model: ModelSpec, *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """One model: its parameters, its layers by kind, and the KV cache per token of context."""
    look = Look(width, colour, ascii)
    facts = {
        "architecture": f"{model.architecture} ({model.family})",
        "parameters": _parameters(model),
        "weights": f"{model.weight_format} ({model.weight_format_reason})",
        "checkpoint": _checkpoint(model),
        "size": f"hidden {model.hidden_size}, vocabulary {model.vocab_size}, context up to {model.max_context_tokens} tokens",
        "KV cache": _cache(model),
    }
    if model.state_bytes:
        facts["state"] = f"{quantity(model.state_bytes / GIB, 'GiB')} per sequence"
    if model.language_model_only:
        facts["note"] = "the config describes a multimodal model; the numbers above are of its language model"
    for tower in model.towers:
        facts[f"{tower.kind} tower"] = (
            f"{quantity(tower.parameters, 'count')} parameters, {quantity(tower.size_bytes / GIB, 'GiB')} in {_tower_formats(tower)}, "
            "beside the checkpoint's bytes above; counted with engines that load it"
        )
    for index, uncounted in enumerate(model.uncounted_towers, 1):
        facts[f"uncounted{'' if index == 1 else f' {index}'}"] = uncounted
    if model.unchecked:
        facts["unchecked"] = model.unchecked
    facts |= {f"warning{'' if index == 1 else f' {index}'}": warning for index, warning in enumerate(model.warnings, 1)}
    lines = [look.paint(line, "title") for line in wrap(model.id, look)]
    lines += [line for name, text in facts.items() for line in wrap(text, look, first=f"{name:<14}")]
    layers: Counter[str] = Counter()
    for layer, count in model.layer_counts():
        # Layers that differ only in the formats of their matrices are one line.
        layers[f"{_mixer(layer)}, {quantity(layer.parameters, 'count')} parameters"] += count
    for text, count in layers.items():
        lines += wrap(f"{count} × {text}", look, first=f"{'layers':<14}")
    return look.finish(lines)


def models_text(models: Sequence[ModelSpec], *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """One row per model."""
    look = Look(width, colour, ascii)
    if not models:
        return look.finish(["No model is known."])
    key = Column("model", tuple(model.id for model in models), left=True)
    columns = (
        Column("params", tuple(quantity(model.parameters, "count") for model in models)),
        Column("active", tuple(quantity(model.active_parameters, "count") for model in models)),
        Column("layers", tuple(str(model.depth) for model in models)),
        Column("context", tuple(str(model.max_context_tokens) for model in models)),
        Column("KV per 1k", tuple(quantity(_cache_gib(model), "GiB") for model in models)),
        Column("weights", tuple(model.weight_format for model in models), left=True),
        Column("family", tuple(model.family for model in models), left=True),
    )
    return look.finish(table(key, [Group((column,)) for column in columns], look))


def _checkpoint(model: ModelSpec) -> str:
    """The bytes of the weights, and where several formats share them the part of each."""
    total, parts = model.checkpoint_bytes, model.bytes_by_format
    source = "in its files" if model.file_bytes is not None else "by its config"
    text = f"{quantity(total / GIB, 'GiB')} ({number(total / 1e9)} GB) of weights {source}"
    shares = (f"{format} {quantity(size / GIB, 'GiB')}" for format, size in parts.items())
    return text if len(parts) == 1 else f"{text}: {', '.join(shares)}"


def _tower_formats(tower: Tower) -> str:
    return ", ".join(dict.fromkeys((*(matrix.stored or tower.format for matrix in tower.matrices), tower.format)))


def _cache(model: ModelSpec) -> str:
    """Bytes that one token more takes, before and after each window of the model's layers is full."""
    first, *after = ((tokens, f"{number(elements * _BF16_BYTES / 1000)} kB") for tokens, elements in model.cache_steps)
    text = f"{first[1]} a token of one sequence in bf16"
    if not after:
        return f"{text}; {quantity(_cache_gib(model), 'GiB')} per 1024 tokens"
    return ", ".join((text, *(f"then {size} once a window of {tokens} tokens is full" for tokens, size in after)))


def _parameters(model: ModelSpec) -> str:
    text = quantity(model.parameters, "count")
    if model.active_parameters == model.parameters:
        return text
    share = model.active_parameters / model.parameters * 100
    return f"{text}, of which a token activates {quantity(model.active_parameters, 'count')} ({number(share)} %)"


def _cache_gib(model: ModelSpec) -> float:
    """GiB that 1,024 tokens more take once every window is full."""
    return model.kv_elements_per_token * 1024 * _BF16_BYTES / GIB


def _mixer(layer: Layer) -> str:
    """The token mixer of a layer and its dimensions."""
    mixer = layer.mixer
    if isinstance(mixer, SelfAttention):
        window = f", {'chunks' if mixer.chunked else 'window'} of {mixer.window} tokens" if mixer.window else ""
        sinks = ", sinks" if mixer.sinks else ""
        return f"attention, {mixer.q_heads} query and {mixer.kv_heads} key-value heads of {mixer.head_dim}{window}{sinks}"
    if isinstance(mixer, LatentAttention):
        sparse = f", sparse: {mixer.index_topk} tokens per query" if mixer.index_topk else ""
        return f"latent attention, {mixer.heads} heads, cache rank {mixer.kv_rank} + {mixer.rope_dim}{sparse}"
    if isinstance(mixer, RecurrentMixer):
        return f"{mixer.kind}, {quantity(mixer.state_bytes / GIB, 'GiB')} of state per sequence"
    return "no token mixer"

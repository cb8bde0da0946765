"""Builds the runtime's decoder from a model whose modules are those of a Llama-like decoder."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from advisor.backends.model.quantised_linear import Product, QuantisedLinear
from advisor.backends.runtime.model.attention_hook import Options
from advisor.backends.runtime.model.decoder import Decoder, DecoderLayer, GatedProducts
from advisor.backends.runtime.model.linears import product
from advisor.backends.runtime.model.row_operators import Norm, RowOperators
from advisor.backends.runtime.model.transformers_private import has_accelerate_hook

_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_HEAD_NORMS = {"q_norm", "k_norm"}
_FEED_FORWARD = {"gate_proj", "up_proj", "down_proj", "act_fn"}


def unsupported_reason(model: Any) -> str | None:
    """Why the runtime's decoder does not support the model; `None` where it does."""
    inner: Any = getattr(model, "model", None)
    head = getattr(model, "lm_head", None)
    if inner is None or not _is_linear(head) or _names(model) != {"model", "lm_head"}:
        return "it is not a body and an output head"
    if _names(inner) != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        return f"its body holds {', '.join(sorted(_names(inner)))}"
    if _arguments(inner.rotary_emb) != ["x", "position_ids"]:
        return "its rotary embedding depends on more than positions"
    if type(inner.embed_tokens) is not nn.Embedding:
        return "its embedding is not a plain one"
    if _is_hooked(model):
        return "hooks hang on its modules"
    norms = {id(type(norm)): norm for norm in (inner.norm, *_norms(inner))}
    other_norm = next((norm for norm in norms.values() if not _is_rms_norm(norm)), None)
    if other_norm is not None:
        return f"its {type(other_norm).__name__} is not root-mean-square normalisation as Llama's"
    return next((why for layer in inner.layers if (why := _unsupported_layer_reason(layer)) is not None), None)


def build(model: Any, options: Sequence[Options], operators: RowOperators, undo: ExitStack) -> Decoder:
    """The decoder of a supported model; `options` are those of each layer's attention."""
    inner = model.model
    unchanged = frozenset({id(inner.embed_tokens.weight)})

    def of(*linears: nn.Module) -> Product:
        return product(linears, unchanged, undo)

    return Decoder(
        embedding=inner.embed_tokens.weight.detach(),
        rotary=inner.rotary_emb,
        layers=tuple(_layer(layer, options[index], of) for index, layer in enumerate(inner.layers)),
        norm=_norm(inner.norm),
        head=of(model.lm_head),
        operators=operators,
    )


def _layer(layer: Any, options: Options, of: Callable[..., Product]) -> DecoderLayer:
    attention, feed_forward = layer.self_attn, layer.mlp
    width = attention.head_dim
    heads, kv_heads = (projection.out_features // width for projection in (attention.q_proj, attention.k_proj))
    gated = _names(feed_forward) == _FEED_FORWARD
    return DecoderLayer(
        before_attention=_norm(layer.input_layernorm),
        qkv=of(attention.q_proj, attention.k_proj, attention.v_proj),
        heads=heads,
        kv_heads=kv_heads,
        head_norm=_head_norm(attention, heads, kv_heads),
        attention_output=of(attention.o_proj),
        options=options,
        before_feed_forward=_norm(layer.post_attention_layernorm),
        feed_forward=GatedProducts(of(feed_forward.gate_proj, feed_forward.up_proj), feed_forward.act_fn, of(feed_forward.down_proj))
        if gated
        else feed_forward,
    )


def _norm(module: Any) -> Norm:
    return Norm(module.weight.detach(), _eps(module))


def _head_norm(attention: Any, heads: int, kv_heads: int) -> Norm | None:
    """The norms of query and key heads as one. Different epsilons are found by the comparison of logits."""
    if not _names(attention) >= _HEAD_NORMS:
        return None
    query, key = attention.q_norm, attention.k_norm
    weight = torch.cat([query.weight.detach().expand(heads, -1), key.weight.detach().expand(kv_heads, -1)])
    return Norm(weight, _eps(query))


def _unsupported_layer_reason(layer: nn.Module) -> str | None:
    if _names(layer) != _LAYER:
        return f"a layer holds {', '.join(sorted(_names(layer)))}"
    attention: Any = layer.self_attn
    if _names(attention) not in (_ATTENTION, _ATTENTION | _HEAD_NORMS):
        return f"its attention holds {', '.join(sorted(_names(attention)))}"
    width = getattr(attention, "head_dim", None)
    projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    if not all(map(_is_linear, projections)) or not isinstance(width, int):
        return "its attention's projections are not linears over heads of one width"
    if attention.k_proj.out_features != attention.v_proj.out_features:
        return "its keys and values differ in width"
    if _names(attention) >= _HEAD_NORMS and not attention.q_norm.weight.shape == attention.k_norm.weight.shape == (width,):
        return "its query and key norms do not go head by head"
    feed_forward: Any = layer.mlp
    if _names(feed_forward) == _FEED_FORWARD and not all(
        map(_is_linear, (feed_forward.gate_proj, feed_forward.up_proj, feed_forward.down_proj))
    ):
        return "its feed-forward products are not linears"
    return None


def _norms(inner: Any) -> list[nn.Module]:
    return [
        module
        for layer in inner.layers
        for name, module in layer.named_modules()
        if name.rpartition(".")[2].endswith(("norm", "layernorm"))
    ]


def _is_rms_norm(norm: nn.Module) -> bool:
    """Whether the module computes an RMS norm, tested on random numbers."""
    weight, eps = getattr(norm, "weight", None), _eps(norm)
    if not isinstance(weight, Tensor) or weight.dim() != 1 or eps is None:
        return False
    x = torch.linspace(-3, 5, 2 * len(weight), dtype=weight.dtype, device=weight.device).view(2, -1)
    with torch.inference_mode():
        ours, theirs = Norm(weight, eps)(x).float(), norm(x).float()
    return torch.allclose(ours, theirs, rtol=1e-2 if weight.dtype.itemsize == 2 else 1e-5, atol=1e-6)


def _eps(norm: Any) -> Any:
    return next((getattr(norm, name) for name in ("variance_epsilon", "eps") if isinstance(getattr(norm, name, None), float)), None)


def _is_hooked(model: nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks or has_accelerate_hook(module) for module in model.modules())


def _arguments(module: nn.Module) -> list[str]:
    """The arguments of the module's call that have no default."""
    parameters = inspect.signature(module.forward).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty]


def _is_linear(module: object) -> bool:
    return type(module) is nn.Linear or isinstance(module, QuantisedLinear)


def _names(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}

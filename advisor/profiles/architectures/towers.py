"""Towers beside a language model that engines load with it: encoders of images and sound, with their projectors. Sizes only.

Families: Qwen 2 to 3.5 VL, GLM 4V, InternVL, LLaVA, Mistral 3, Gemma 3 and 4, PaliGemma, Llama 4, Idefics 3 and SmolVLM, Kimi K2.5.
Defaults are those of the families' configuration classes in transformers 5.23.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import Matrix
from advisor.profiles.errors import AdvisorError
from advisor.profiles.formats import weight_format


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """One encoder and its projector into the language model."""

    kind: str
    """`vision` or `audio`."""
    matrices: tuple[Matrix, ...]
    """Weights of linear layers; `copies` are the layers of the encoder that have one."""
    vector_parameters: int
    """Norms, biases, convolutions and position embeddings."""
    format: str = "bf16"
    """Format of what is not in a matrix, and of every matrix that has no `stored` format."""

    @property
    def parameters(self) -> int:
        """All parameters."""
        return sum(matrix.parameters for matrix in self.matrices) + self.vector_parameters

    @property
    def size_bytes(self) -> float:
        """Bytes in the checkpoint's formats, scales included."""
        vectors = self.vector_parameters + sum(matrix.copies * matrix.n * matrix.bias for matrix in self.matrices)
        sizes = (matrix.copies * weight_format(matrix.stored or self.format).matrix_bytes(matrix.n, matrix.k) for matrix in self.matrices)
        return sum(sizes) + vectors * weight_format(self.format).bits / 8


class _Parts:
    """Collects the weights of a tower."""

    def __init__(self) -> None:
        self.matrices: list[Matrix] = []
        self.vectors = 0

    def linear(self, name: str, n: int, k: int, *, copies: int = 1, bias: bool = True) -> None:
        """Linear layers of `n` outputs and `k` inputs."""
        self.matrices.append(Matrix(name=name, n=n, k=k, kind="tower", copies=copies, active=copies, bias=bias))

    def blocks(self, count: int, hidden: int, inner: int, *, attention_bias: bool = True, out_bias: bool | None = None,
               mlp_bias: bool = True, gated: bool = False, vectors: int = 0) -> None:  # fmt: skip
        """Layers of an encoder: attention and an MLP; `vectors` are the parameters of a layer's norms and scales."""
        self.linear("blocks.0.attn.qkv", 3 * hidden, hidden, copies=count, bias=attention_bias)
        self.linear("blocks.0.attn.proj", hidden, hidden, copies=count, bias=attention_bias if out_bias is None else out_bias)
        self.linear("blocks.0.mlp.fc1", inner * (1 + gated), hidden, copies=count, bias=mlp_bias)
        self.linear("blocks.0.mlp.fc2", hidden, inner, copies=count, bias=mlp_bias)
        self.vectors += count * vectors

    def tower(self, kind: str = "vision") -> Tower:
        """What was collected."""
        return Tower(kind=kind, matrices=tuple(self.matrices), vector_parameters=self.vectors)


def towers_of(whole: Fields, hidden: int) -> tuple[tuple[Tower, ...], tuple[str, ...]]:
    """The towers of a multimodal config whose language model has `hidden` elements, and a sentence for each that cannot be counted."""
    whole = whole.inner("thinker_config") or whole
    family = str(whole.values.get("model_type"))
    towers: list[Tower] = []
    unknown: list[str] = []
    for kind, readers in (("vision", _VISION), ("audio", _AUDIO)):
        values, reader = whole.values.get(f"{kind}_config"), readers.get(family)
        if not isinstance(values, Mapping):
            continue
        part = Fields(values, f"{whole.where}: {kind}_config")
        try:
            towers.append(reader(whole, part, hidden) if reader else _unread(kind))
        except AdvisorError as error:
            # A language model can be planned for whatever its towers are.
            unknown.append(f"{kind} tower not counted: {error.message}")
    return tuple(towers), tuple(unknown)


def _unread(kind: str) -> Tower:
    raise AdvisorError("model-config", f"no {kind} tower of this family is known")


def _sides(fields: Fields, name: str, default: int) -> tuple[int, int]:
    """Height and width under a key that holds one number for both or a list of two."""
    value = fields.values.get(name)
    if not isinstance(value, list | tuple):
        side = fields.count(name, default=default)
        return side, side
    sides = [Fields({name: entry}, fields.where).count(name) for entry in value[:2]]
    if not sides:
        raise fields.problem(f"`{name}` is empty")
    return sides[0], sides[-1]


def _patches(fields: Fields, image: int, patch: int) -> int:
    """Patches of an image."""
    sizes, steps = _sides(fields, "image_size", image), _sides(fields, "patch_size", patch)
    return max(prod(size // step for size, step in zip(sizes, steps, strict=True)), 1)


def _pixels(fields: Fields, patch: int, *, frames: int = 1) -> int:
    """Inputs of the patch embedding: channels, frames, height and width."""
    channels = fields.count("in_channels", "num_channels", default=3)
    return channels * fields.count("temporal_patch_size", default=frames) * prod(_sides(fields, "patch_size", patch))


def _merged(fields: Fields) -> int:
    """Neighbouring patches that are merged into one token."""
    return fields.count("spatial_merge_size", default=2) ** 2


def qwen2_vl(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """Qwen 2 VL: `embed_dim` is the encoder's width, `hidden_size` that of the language model."""
    parts, width, count = _Parts(), fields.count("embed_dim", default=1280), fields.count("depth", default=32)
    parts.blocks(count, width, width * fields.count("mlp_ratio", default=4), vectors=4 * width)
    parts.vectors += width * _pixels(fields, 14, frames=2) + 2 * width
    _merger(parts, width * _merged(fields), fields.count("hidden_size", default=3584))
    return parts.tower()


def qwen2_5_vl(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """Qwen 2.5 VL: norms without bias, a gated MLP."""
    parts, width, count = _Parts(), fields.count("hidden_size", default=3584), fields.count("depth", default=32)
    parts.blocks(count, width, fields.count("intermediate_size", default=3420), gated=True, vectors=2 * width)
    parts.vectors += width * _pixels(fields, 14, frames=2) + width
    _merger(parts, width * _merged(fields), fields.count("out_hidden_size", default=3584))
    return parts.tower()


def qwen3_vl(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """Qwen 3 VL and 3.5: learned positions; Qwen 3 VL has a merger more for each of `deepstack_visual_indexes`."""
    parts, width, count = _Parts(), fields.count("hidden_size", default=1152), fields.count("depth", default=27)
    parts.blocks(count, width, fields.count("intermediate_size", default=4304), vectors=4 * width)
    parts.vectors += width * (_pixels(fields, 16, frames=2) + 1) + fields.count("num_position_embeddings", default=2304) * width
    merged, out = width * _merged(fields), fields.count("out_hidden_size", default=3584)
    parts.vectors += 2 * width
    _merger(parts, merged, out)
    deep = fields.items("deepstack_visual_indexes")
    taps = 0 if str(whole.values["model_type"]).startswith("qwen3_5") else 3 if deep is None else len(deep)
    for _ in range(taps):
        parts.vectors += 2 * merged
        _merger(parts, merged, out)
    return parts.tower()


def _merger(parts: _Parts, merged: int, out: int) -> None:
    parts.linear("merger.mlp.0", merged, merged)
    parts.linear("merger.mlp.2", out, merged)


def glm4v(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """GLM 4V: no biases in the encoder, a convolution that merges patches, a gated merger."""
    parts, width, count = _Parts(), fields.count("hidden_size", default=1536), fields.count("depth", default=24)
    out, inner = fields.count("out_hidden_size", default=4096), fields.count("intermediate_size", default=13696)
    bias = fields.flag("attention_bias", default=False)
    parts.blocks(count, width, out, attention_bias=bias, out_bias=False, mlp_bias=False, gated=True, vectors=2 * width)
    parts.vectors += width * (_pixels(fields, 14, frames=2) + 1) + _patches(fields, 336, 14) * width + 2 * width
    parts.vectors += out * width * _merged(fields) + out + 2 * out
    parts.linear("merger.proj", out, out, bias=False)
    parts.linear("merger.gate_up_proj", 2 * inner, out, bias=False)
    parts.linear("merger.down_proj", out, inner, bias=False)
    return parts.tower()


def internvl(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """InternVL: an encoder with scaled residuals; patches are merged by `downsample_ratio`."""
    parts, width, count = _Parts(), fields.count("hidden_size", default=1024), fields.count("num_hidden_layers", default=24)
    norms = 4 * width + 2 * width + (2 * width if fields.flag("use_qk_norm", "qk_normalization", default=False) else 0)
    bias = fields.flag("attention_bias", "qkv_bias", default=False)
    parts.blocks(count, width, fields.count("intermediate_size", default=4096), attention_bias=bias, out_bias=True, vectors=norms)
    parts.vectors += width * (_pixels(fields, 14) + 1) + (_patches(fields, 448, 14) + 2) * width
    merged = 4 * width
    parts.vectors += 2 * merged
    parts.linear("multi_modal_projector.linear_1", hidden, merged)
    parts.linear("multi_modal_projector.linear_2", hidden, hidden)
    return parts.tower()


def _encoder(fields: Fields) -> _Parts:
    """SigLIP or CLIP, by the `model_type` of the vision part."""
    parts, width = _Parts(), fields.count("hidden_size", default=768)
    inner, clip = fields.count("intermediate_size", default=3072), str(fields.values.get("model_type", "")).startswith("clip")
    patch = 32 if clip else 16
    parts.blocks(fields.count("num_hidden_layers", default=12), width, inner, vectors=4 * width)
    parts.vectors += width * _pixels(fields, patch) + _patches(fields, 224, patch) * width + 2 * width
    # CLIP has a class token with its position and a norm before the layers, SigLIP a bias of its patches.
    parts.vectors += 4 * width if clip else width
    if not clip and fields.flag("vision_use_head", default=True):
        parts.linear("head.attention", 3 * width, width)
        parts.linear("head.attention.out_proj", width, width)
        parts.linear("head.mlp.fc1", inner, width)
        parts.linear("head.mlp.fc2", width, inner)
        parts.vectors += 3 * width
    return parts


def gemma3(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """Gemma 3: SigLIP, a norm and one projection."""
    parts, width = _encoder(fields), fields.count("hidden_size", default=768)
    parts.vectors += width + width * hidden
    return parts.tower()


def paligemma(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """PaliGemma: SigLIP without its head, one projection."""
    parts = _encoder(Fields({**fields.values, "vision_use_head": False}, fields.where))
    parts.linear("multi_modal_projector.linear", hidden, fields.count("hidden_size", default=768))
    return parts.tower()


def llava(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """LLaVA: CLIP or SigLIP with two projections, and a token that ends rows of images from LLaVA-NeXT on."""
    if fields.word("model_type") == "pixtral":
        return mistral3(whole, fields, hidden)
    absent = {} if whole.values.get("model_type") == "llava_onevision" else {"model_type": "clip_vision_model"}
    parts, bias = _encoder(Fields({**absent, **fields.values}, fields.where)), whole.flag("multimodal_projector_bias", default=True)
    taps = whole.values.get("vision_feature_layer")
    width = fields.count("hidden_size", default=768) * (len(taps) if isinstance(taps, list) and taps else 1)
    parts.linear("multi_modal_projector.linear_1", hidden, width, bias=bias)
    parts.linear("multi_modal_projector.linear_2", hidden, hidden, bias=bias)
    parts.vectors += 0 if whole.values.get("model_type") == "llava" else hidden
    return parts.tower()


def mistral3(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """Mistral 3 and Pixtral: an encoder without biases; Mistral 3 merges patches."""
    parts, width = _Parts(), fields.count("hidden_size", default=1024)
    inner, merges = fields.count("intermediate_size", default=4096), whole.values.get("model_type") != "llava"
    parts.blocks(
        fields.count("num_hidden_layers", default=24), width, inner, attention_bias=False, mlp_bias=False, gated=True, vectors=2 * width
    )
    parts.vectors += width * _pixels(fields, 16) + width
    bias = whole.flag("multimodal_projector_bias", default=not merges)
    if merges:
        parts.vectors += width
        parts.linear("multi_modal_projector.patch_merger.merging_layer", width, width * _merged(whole), bias=False)
    parts.linear("multi_modal_projector.linear_1", hidden, width, bias=bias)
    parts.linear("multi_modal_projector.linear_2", hidden, hidden, bias=bias)
    return parts.tower()


def gemma4(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """Gemma 4: an encoder without biases, head norms, positions of both axes."""
    parts, width = _Parts(), fields.count("hidden_size", default=768)
    heads, inner = fields.count("num_attention_heads", default=12), fields.count("intermediate_size", default=3072)
    dim, bias = fields.count("head_dim", default=64), fields.flag("attention_bias", default=False)
    keys, count = fields.count("num_key_value_heads", default=heads), fields.count("num_hidden_layers", default=16)
    parts.linear("encoder.layers.0.self_attn.qkv_proj", (heads + 2 * keys) * dim, width, copies=count, bias=bias)
    parts.linear("encoder.layers.0.self_attn.o_proj", width, heads * dim, copies=count, bias=bias)
    parts.linear("encoder.layers.0.mlp.gate_up_proj", 2 * inner, width, copies=count, bias=False)
    parts.linear("encoder.layers.0.mlp.down_proj", width, inner, copies=count, bias=False)
    parts.vectors += count * (4 * width + 2 * dim) + width * _pixels(fields, 16)
    parts.vectors += 2 * fields.count("position_embedding_size", default=10240) * width
    parts.linear("embed_vision.embedding_projection", hidden, width, bias=False)
    return parts.tower()


def gemma4_audio(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """Gemma 4's conformer: two MLPs, attention with relative positions and a convolution in each layer."""
    parts, width, count = _Parts(), fields.count("hidden_size", default=1024), fields.count("num_hidden_layers", default=12)
    out, heads = fields.count("output_proj_dims", default=1536), fields.count("num_attention_heads", default=8)
    channels = fields.items("subsampling_conv_channels") or [128, 32]
    first, second = (Fields({"channels": channel}, fields.where).count("channels") for channel in (channels[0], channels[-1]))
    parts.linear("layers.0.feed_forward.ffw_layer_1", 4 * width, width, copies=2 * count, bias=False)
    parts.linear("layers.0.feed_forward.ffw_layer_2", width, 4 * width, copies=2 * count, bias=False)
    parts.linear("layers.0.self_attn.proj", width, width, copies=5 * count, bias=False)
    parts.linear("layers.0.lconv1d.linear_start", 2 * width, width, copies=count, bias=False)
    parts.linear("layers.0.lconv1d.linear_end", width, width, copies=count, bias=False)
    parts.vectors += count * (width * fields.count("conv_kernel_size", default=5) + 9 * width + width // heads)
    parts.vectors += 9 * first + first + 9 * first * second + second
    parts.linear("subsample_conv_projection.input_proj_linear", width, 32 * second, bias=False)
    parts.linear("output_proj", out, width)
    parts.linear("embed_audio.embedding_projection", hidden, out, bias=False)
    return parts.tower("audio")


def kimi_k25(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """Kimi K2.5 (MoonViT): a grid of learned positions, two projections of merged patches."""
    parts, width = _Parts(), fields.count("hidden_size", "vt_hidden_size", default=1152)
    count = fields.count("num_hidden_layers", "vt_num_hidden_layers", default=27)
    parts.blocks(count, width, fields.count("intermediate_size", "vt_intermediate_size", default=4304), vectors=4 * width)
    grid = fields.count("init_pos_emb_height", "pos_emb_height", default=64) * fields.count(
        "init_pos_emb_width", "pos_emb_width", default=64
    )
    parts.vectors += width * (_pixels(Fields({"patch_size": fields.count("patch_size", default=14)}, fields.where), 14) + 1)
    merged, before = 4 * width, fields.count("projection_hidden_size", default=whole.count("projection_hidden_size", default=1152))
    parts.vectors += (grid + 2) * width + 2 * before
    parts.linear("mm_projector.in_proj", merged, merged)
    parts.linear("mm_projector.out_proj", hidden, merged)
    return parts.tower()


def llama4(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """Llama 4: a class token, an adapter of shuffled pixels, one projection."""
    parts, width = _Parts(), fields.count("hidden_size", default=768)
    inner = fields.count("intermediate_size", default=5632)
    parts.blocks(fields.count("num_hidden_layers", default=34), width, inner, vectors=4 * width)
    parts.vectors += width * (_patches(fields, 448, 14) + 2) + 4 * width
    middle, out = fields.count("projector_input_dim", default=4096), fields.count("projector_output_dim", default=4096)
    parts.linear("patch_embedding.linear", width, _pixels(fields, 14), bias=False)
    parts.linear("vision_adapter.mlp.fc1", middle, inner, bias=False)
    parts.linear("vision_adapter.mlp.fc2", out, middle, bias=False)
    parts.linear("multi_modal_projector.linear_1", hidden, fields.count("vision_output_dim", default=7680), bias=False)
    return parts.tower()


def idefics3(whole: Fields, fields: Fields, hidden: int) -> Tower:
    """Idefics 3 and SmolVLM: SigLIP without its head, one projection of shuffled pixels."""
    absent = {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "image_size": 224, "patch_size": 32}
    described = Fields({**absent, **fields.values, "vision_use_head": False, "model_type": "siglip"}, fields.where)
    parts = _encoder(described)
    width = described.count("hidden_size") * whole.count("scale_factor", default=2) ** 2
    parts.linear("connector.modality_projection.proj", hidden, width, bias=False)
    return parts.tower()


_Reader = Callable[[Fields, Fields, int], Tower]
_VISION: dict[str, _Reader] = {
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl,
    "qwen3_5": qwen3_vl,
    "qwen3_5_moe": qwen3_vl,
    "glm4v": glm4v,
    "glm4v_moe": glm4v,
    "glm46v": glm4v,
    "internvl": internvl,
    "internvl_chat": internvl,
    "gemma3": gemma3,
    "paligemma": paligemma,
    "llava": llava,
    "llava_next": llava,
    "llava_onevision": llava,
    "mistral3": mistral3,
    "gemma4": gemma4,
    "kimi_k25": kimi_k25,
    "llama4": llama4,
    "idefics3": idefics3,
    "smolvlm": idefics3,
}
_AUDIO: dict[str, _Reader] = {"gemma4": gemma4_audio}

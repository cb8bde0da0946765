"""The distinct matrices and mixers of a model, and the format that each is stored in."""

from dataclasses import dataclass
from functools import lru_cache

from advisor.backends.deployment import Deployment, Parallel
from advisor.profiles.architectures.layers import Matrix, Mixer, RecurrentMixer, SelfAttention
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.hardware import DTYPES

EXL2_HEAD_FORMAT = "exl2-6.0bpw"
"""Format in which ExLlamaV2's converter stores the head by default (`-hb 6`)."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The distinct matrices and mixers of a model with their counts, over all layers."""

    matrices: tuple[tuple[Matrix, int], ...]
    mixers: tuple[tuple[Mixer, int], ...]
    vector_parameters: int
    widest: int
    """Most output features of one matrix."""
    kv_heads: int
    """Most key-value heads of a layer; 1 without attention."""
    unquantised_kinds: frozenset[str]
    """Kinds of matrices that the checkpoint stores in bf16 or fp16, its format notwithstanding."""
    expert_layers: int
    """Layers with routed experts."""
    recurrent_layers: int
    """Layers with a recurrent state of fixed size in place of a key-value cache."""
    experts_per_token: int
    """Routed experts of one token in a layer (top-k); 0 without routed experts."""


@lru_cache(maxsize=64)
def structure_of(model: ModelSpec) -> Structure:
    """The structure of a model, cached."""
    layers = tuple(model.layer_counts())
    matrices = tuple(model.matrices())
    return Structure(
        matrices=matrices,
        mixers=tuple((layer.mixer, count) for layer, count in layers if layer.mixer is not None),
        vector_parameters=model.vector_parameters + sum(count * layer.vector_parameters for layer, count in layers),
        widest=max((matrix.n for matrix, _ in matrices if matrix.copies == 1), default=model.hidden_size),
        kv_heads=max((layer.mixer.kv_heads for layer, _ in layers if isinstance(layer.mixer, SelfAttention)), default=1),
        unquantised_kinds=model.unquantised_kinds,
        expert_layers=sum(count for layer, count in layers if any(is_routed(matrix) for matrix in layer.matrices)),
        recurrent_layers=sum(count for layer, count in layers if isinstance(layer.mixer, RecurrentMixer)),
        experts_per_token=max((matrix.active for matrix, _ in matrices if is_routed(matrix)), default=0),
    )


def is_routed(matrix: Matrix) -> bool:
    """Whether a router sends each token to some of the copies of the matrix."""
    return matrix.copies > matrix.active


def expert_devices(parallel: Parallel) -> int:
    """Devices over which the experts of one layer are divided: the expert-parallel group, at least the tensor-parallel one."""
    return max(parallel.expert, parallel.tensor)


def stored_format(deployment: Deployment, matrix: Matrix) -> str:
    """The name of the format that a matrix is stored in under this deployment, e.g. `bf16` or `int4-g128`."""
    format, plain = _checkpoint_format(deployment, matrix), deployment.weights.plain_format
    return plain if plain is not None and matrix.kind != "router" and format in ("bf16", "fp16") else format


def _checkpoint_format(deployment: Deployment, matrix: Matrix) -> str:
    if matrix.stored is not None:
        return deployment.weights.dtype if deployment.weights.dtype and matrix.stored in DTYPES else matrix.stored
    model, format = deployment.model, deployment.weights.format
    if format.startswith("gguf-"):
        # A GGUF type states the bits per weight of whole files: embedding and head are quantised too.
        return format
    if format.startswith("exl2-") and matrix.kind == "head":
        return EXL2_HEAD_FORMAT
    if format == model.weight_format:
        return format
    if matrix.kind == "router" or matrix.kind in deployment.weights.unquantised_kinds:
        native = "bf16" if matrix.kind in ("embedding", "head") else model.weight_format
        return deployment.weights.dtype or (native if matrix.kind != "router" or native in DTYPES else "bf16")
    group = deployment.weights.group_size
    return f"{deployment.weights.format}-g{group}" if group and deployment.weights.format == "int4" else deployment.weights.format


def touched_experts(matrix: Matrix, rows: int) -> float:
    """Expected number of experts that at least one of `rows` tokens is routed to, under uniform routing."""
    return matrix.copies * (1.0 - (1.0 - matrix.active / matrix.copies) ** rows)

"""The architecture of a decoder: layers, parameter counts, cache and state sizes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from advisor.profiles.architectures.layers import LatentAttention, Layer, Matrix, Mixer, RecurrentMixer, SelfAttention
from advisor.profiles.architectures.towers import Tower
from advisor.profiles.formats import weight_format

SNAPSHOTS = Path(__file__).parents[1] / "models"
"""The shipped `config.json` files, one per model, named `owner--name.json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A decoder's shapes, read from its `config.json`."""

    id: str
    family: str
    architecture: str
    hidden_size: int
    vocab_size: int
    max_context_tokens: int
    layers: tuple[Layer, ...]
    embedding: Matrix
    head: Matrix | None
    """`None` when the embedding serves as the head."""
    vector_parameters: int
    """Parameters outside the layers and matrices: final norm, position embeddings."""
    weight_format: str
    """Format of the checkpoint's weights, in the names of `formats.py`."""
    weight_format_reason: str
    """Where the format is from, or that it is assumed."""
    config_digest: str
    cache_format: str | None = None
    """Format of the KV cache that the checkpoint brings scales for; `None` for none."""
    file_bytes: int | None = None
    """Bytes of the language model's tensors in the checkpoint's files; `None` without files, or where they hold another dtype."""
    warnings: tuple[str, ...] = ()
    """What may make the bytes of the weights wrong, a sentence each."""
    folder: str | None = None
    layers_per_block: int = 1
    """Entries of `layers` for each layer of the config: 2 where a layer has two mixers."""
    towers: tuple[Tower, ...] = ()
    """Encoders of images and sound beside the language model, which is all that the other fields describe."""
    uncounted_towers: tuple[str, ...] = ()
    """Towers whose size is not known, a sentence each."""
    lookups: tuple[Matrix, ...] = ()
    """Embeddings beside that of the input, of which a token reads one row."""
    language_model_only: bool = False
    """The config describes more, such as a vision tower; only its language model is planned for."""
    positions: str = "rotary"
    """Position encoding, as `positions_of` names it."""
    unchecked: str | None = None
    """Why the parameter count has not been checked against an implementation."""

    def __hash__(self) -> int:
        """Of id and digest only: deployments are keys of the planner's tables, and hashing every layer is slow."""
        return hash((self.id, self.config_digest))

    @property
    def parameters(self) -> int:
        """All parameters; a tied head is counted once."""
        outside = sum(matrix.parameters for matrix in self.outside) + self.vector_parameters
        return outside + sum(count * layer.parameters for layer, count in self.layer_counts())

    @property
    def outside(self) -> tuple[Matrix, ...]:
        """The matrices outside of layers: embedding, head where it is not tied, other embeddings."""
        return (self.embedding, *((self.head,) if self.head else ()), *self.lookups)

    @property
    def depth(self) -> int:
        """Layers as the config counts them."""
        return len(self.layers) // self.layers_per_block

    @property
    def active_parameters(self) -> int:
        """Parameters less the experts that one token does not pass through and less `lookups`; embedding and head are counted."""
        unread = sum(matrix.parameters for matrix in self.lookups)
        return self.parameters - unread - sum(count * (matrix.parameters - matrix.active_parameters) for matrix, count in self.matrices())

    @property
    def mixers(self) -> Iterator[Mixer]:
        """Each distinct mixer of the layers."""
        yield from dict.fromkeys(layer.mixer for layer, _ in self.layer_counts() if layer.mixer is not None)

    @property
    def attention_layers(self) -> tuple[Layer, ...]:
        """The layers with a cache that grows with the context."""
        return tuple(layer for layer in self.layers if isinstance(layer.mixer, SelfAttention | LatentAttention))

    @property
    def recurrent_layers(self) -> tuple[Layer, ...]:
        """The layers with a state of fixed size."""
        return tuple(layer for layer in self.layers if isinstance(layer.mixer, RecurrentMixer))

    @property
    def unquantised_kinds(self) -> frozenset[str]:
        """Kinds of matrices (`Matrix.kind`) that a quantised checkpoint stores in bf16, fp16 or fp32 in every layer."""
        formats: dict[str, set[str | None]] = {}
        for matrix in (*self.outside, *(matrix for matrix, _ in self.matrices())):
            formats.setdefault(matrix.kind, set()).add(matrix.stored)
        return frozenset(kind for kind, stored in formats.items() if stored <= {"bf16", "fp16", "fp32"})

    def stored_format(self, matrix: Matrix) -> str:
        """The checkpoint's format of one of this model's matrices."""
        return matrix.stored or self.weight_format

    @property
    def checkpoint_bytes(self) -> float:
        """Bytes of the checkpoint's weights: of its files where they are at hand, else by its config."""
        return self.config_bytes if self.file_bytes is None else float(self.file_bytes)

    @property
    def file_share(self) -> float:
        """Bytes of the checkpoint's weights relative to what its config says; 1 without files."""
        return self.checkpoint_bytes / self.config_bytes

    @property
    def config_bytes(self) -> float:
        """Bytes of the checkpoint's weights by its config: scales, zero points, biases and vectors included."""
        return sum(self.bytes_by_format.values())

    @property
    def bytes_by_format(self) -> dict[str, float]:
        """Bytes of the checkpoint's weights in each format by its config, most first; vectors and biases are in the model's dtype."""
        native = "fp32" if self.weight_format == "fp32" else self.weight_format if self.weight_format == "fp16" else "bf16"
        width = weight_format(native).bits / 8
        vectors = self.vector_parameters + sum(count * layer.vector_parameters for layer, count in self.layer_counts())
        sizes: dict[str, float] = {}
        for matrix, count in (*((matrix, 1) for matrix in self.outside), *self.matrices()):
            format = self.stored_format(matrix)
            size = count * matrix.copies * weight_format(format).matrix_bytes(matrix.n, matrix.k)
            sizes[format] = sizes.get(format, 0.0) + size
            vectors += count * matrix.copies * matrix.n * matrix.bias
        sizes[native] = sizes.get(native, 0.0) + vectors * width
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))

    @property
    def tower_bytes(self) -> float:
        """Bytes of the towers in the checkpoint's formats."""
        return sum(tower.size_bytes for tower in self.towers)

    def layer_counts(self) -> Iterator[tuple[Layer, int]]:
        """Each distinct layer with the number of times it occurs, in the order of first occurrence."""
        # Equal layers are one object: comparing ids avoids hashing their matrices.
        first = {id(layer): layer for layer in reversed(self.layers)}
        counts = Counter(id(layer) for layer in self.layers)
        yield from ((first[key], count) for key, count in counts.items())

    def matrices(self) -> Iterator[tuple[Matrix, int]]:
        """Each distinct matrix of the layers with the number of layers that have it; without embedding and head."""
        counts: Counter[Matrix] = Counter()
        for layer, count in self.layer_counts():
            for matrix in layer.matrices:
                counts[matrix] += count
        yield from counts.items()

    def cache_elements(self, tokens: int) -> int:
        """Cached elements of one sequence of `tokens` tokens, with windows and compression; recurrent states excluded."""
        return sum(
            count * layer.mixer.cached_elements(tokens)
            for layer, count in self.layer_counts()
            if isinstance(layer.mixer, SelfAttention | LatentAttention)
        )

    @property
    def kv_elements_per_token(self) -> float:
        """Cached elements per additional token once every window is full."""
        # Beyond any window, and a multiple of any compression.
        tokens = 1 << 24
        return (self.cache_elements(2 * tokens) - self.cache_elements(tokens)) / tokens

    @property
    def windows(self) -> tuple[int, ...]:
        """The windows of the layers that cache keys and values, shortest first; empty where every layer caches the full context."""
        windows = {mixer.window for mixer in self.mixers if not isinstance(mixer, RecurrentMixer) and mixer.cache_elements}
        return tuple(sorted(window for window in windows if window is not None))

    @property
    def cache_steps(self) -> tuple[tuple[int, float], ...]:
        """Elements that one token more takes in the cache, from the start and from where each window is full: `(tokens, elements)`."""
        bounds = (0, *self.windows)
        # Up to the last window token by token; beyond it the mean over a span that is a multiple of any compression.
        steps = [(tokens, float(self.cache_elements(tokens + 1) - self.cache_elements(tokens))) for tokens in bounds[:-1]]
        return (*steps, (bounds[-1], self.kv_elements_per_token))

    @property
    def state_bytes(self) -> int:
        """Bytes of one sequence's recurrent states in all layers."""
        return sum(layer.mixer.state_bytes for layer in self.layers if isinstance(layer.mixer, RecurrentMixer))


def describe(spec: ModelSpec) -> dict[str, object]:
    """The main figures of a model, ready for JSON. Cache sizes are in bytes of bf16 keys and values."""
    return {
        "id": spec.id,
        "architecture": spec.architecture,
        "family": spec.family,
        "parameters": spec.parameters,
        "active_parameters": spec.active_parameters,
        "layers": spec.depth,
        "layers_by_kind": dict(Counter(_kind(layer) for layer in spec.layers)),
        "hidden_size": spec.hidden_size,
        "vocab_size": spec.vocab_size,
        "max_context_tokens": spec.max_context_tokens,
        "kv_bytes_per_token": spec.kv_elements_per_token * 2,
        "kv_bytes_at_max_context": spec.cache_elements(spec.max_context_tokens) * 2,
        "state_bytes_per_sequence": spec.state_bytes,
        "weight_format": spec.weight_format,
        "weight_format_reason": spec.weight_format_reason,
        "checkpoint_bytes": round(spec.checkpoint_bytes),
        "cache_format": spec.cache_format,
        "warnings": list(spec.warnings),
        "language_model_only": spec.language_model_only,
        "towers": towers_record(spec),
        "unchecked": spec.unchecked,
        "folder": spec.folder,
        "config_digest": spec.config_digest,
    }


def towers_record(spec: ModelSpec) -> list[dict[str, object]]:
    """The towers of a model, ready for JSON: kind, parameters, bytes and the format of what is not quantised."""
    return [
        {"kind": tower.kind, "parameters": tower.parameters, "bytes": round(tower.size_bytes), "format": tower.format}
        for tower in spec.towers
    ]


def _kind(layer: Layer) -> str:
    """A layer's mixer and block in words, such as `sliding attention + experts`."""
    mixer = layer.mixer
    kinds = {matrix.kind for matrix in layer.matrices}
    block = "experts" if "expert" in kinds else "mlp" if "mlp" in kinds else ""
    if isinstance(mixer, SelfAttention):
        name = f"{'chunked' if mixer.chunked else 'sliding'} attention" if mixer.window else "attention"
    elif isinstance(mixer, LatentAttention):
        name = "latent attention"
    else:
        name = mixer.kind if mixer else ""
    return " + ".join(part for part in (name, block) if part)


def shipped_models() -> tuple[str, ...]:
    """Ids of the shipped snapshots, sorted."""
    return tuple(sorted((path.stem.replace("--", "/", 1) for path in SNAPSHOTS.glob("*.json")), key=str.lower))

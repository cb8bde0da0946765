"""A module of a model with a weight matrix, and what a quantisation says of all modules. Knows no library."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A linear layer, an embedding or the experts of a layer, as checkpoints and engines name it."""

    path: str
    """Full path, such as `model.layers.3.self_attn.q_proj`; of experts with the index of one of them."""
    relative: str
    """Path within its layer, such as `self_attn.q_proj`; the whole path outside of layers."""
    classes: tuple[str, ...]
    """Names of the module's class and of its base classes: `Linear`, `Embedding`, `FusedMoE`, ..."""
    kind: str
    """`Matrix.kind`: `attention`, `expert`, `router`, `embedding`, `head`, ..."""
    aliases: tuple[str, ...] = ()
    """Full paths of fused modules that hold the same matrix: `qkv_proj`, `gate_up_proj`, `experts`."""
    n: int
    """Output features."""
    k: int
    """Input features."""


OUTSIDE_LINEARS = frozenset({"embedding", "head", "router"})
"""Kinds of modules that most libraries leave out unless they are named: they convert the linear layers of a layer."""

Resolve = Callable[[Module], str | None]
"""The format of a module in the names of `formats.py`; `None` for one that is not quantised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """What one library's configuration says of a checkpoint."""

    resolve: Resolve
    unlisted: str | None = None
    """Format of the modules that `resolve` answers `None` for, where it is not the checkpoint's own dtype."""
    warnings: tuple[str, ...] = ()
    """What could not be read and so may make sizes wrong, a sentence each."""

"""A model in memory and the records of a deployment that the runtime serves it with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.backends.deployment import Attention, Batching, Decoding, KvCache
from advisor.backends.model.tuned_attention import TunedAttention

if TYPE_CHECKING:  # loading torch takes seconds, and planning needs the techniques but not torch
    import torch


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its tokenizer, and the deployment's own records of how the runtime serves it.

    Weight formats are those of the modules of `model`.
    """

    folder: Path
    model: Any
    """The `transformers` model, on `device`. Techniques of the weights slot replace modules of it in place."""
    tokenizer: Any
    device: "torch.device"
    max_tokens: int
    """Longest sequence of a slot, prompt and output together."""
    dtype: str | None = None
    """Type of activations and of weights that are not quantised: fp32, bf16 or fp16; `None` for the checkpoint's own."""
    attention: Attention = field(default_factory=Attention)
    kv: KvCache = field(default_factory=KvCache)
    decoding: Decoding = field(default_factory=Decoding)
    batching: Batching = field(default_factory=Batching)
    kv_capacity_tokens: int | None = None
    """Tokens of the whole cache; `None` for `batching.max_sequences` times `max_tokens`."""
    draft_folder: Path | None = None
    """Where the draft model is; `None` for the one that published evidence names for the model in `folder`."""
    draft_model: Any = None
    """The `transformers` model of the draft, where `decoding.method` is `DRAFT`."""
    autotuner: TunedAttention | None = None
    """Backends chosen by timing, kept from one serving to the next, where `attention.backend` is `AUTO`."""

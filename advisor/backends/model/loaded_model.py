"""The same thing as a deployment, for real: a loaded model with one field per slot."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # loaded only by those who apply
    import torch

    from advisor.backends.runtime.attention.autotune import Fastest


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model and the runtime settings that `advisor.backends.runtime` runs it with."""

    folder: Path
    model: Any
    """The `transformers` model, on its device; the weights slot swaps modules of it."""
    tokenizer: Any
    device: "torch.device"
    max_tokens: int
    """Longest sequence that a slot must hold, prompt and output together."""
    attention: str = "eager"
    """`eager`, `sdpa`, `flex` or `flash`: the fastest of all ways that are exact, as `fastest` finds them."""
    fastest: "Fastest | None" = None
    """What was measured of ways to attend; kept from one serving to the next."""
    attention_window: int | None = None
    """Newest tokens that each one sees; `None` for what the model itself says."""
    attention_pattern: Any = None
    """An `advisor.kernels.attention.block_pattern.BlockPattern` of what each token sees; `None` for everything."""
    kv_layout: str = "contiguous"
    kv_block_tokens: int = 0
    kv_format: str = "bf16"
    kv_prefix_reuse: bool = False
    """Whether requests that begin alike share blocks of a paged cache."""
    kv_window: int | None = None
    """Newest tokens that stay in the cache; `None` for all."""
    kv_first_tokens: int = 0
    """First tokens that stay too, at their places within what is kept."""
    draft_folder: Path | None = None
    """Where the draft model is; `None` to look for the one that is known to go with the model in `folder`."""
    kv_capacity_tokens: int | None = None
    """Tokens that the pool holds; `None` for `max_sequences` times `max_tokens`."""
    decoding: str = "plain"
    draft_tokens: int = 0
    draft_model: Any = None
    batching: str = "static"
    max_sequences: int = 1
    token_budget: int = 0
    """Most tokens in one step; 0 for whole prompts, one step each."""
    chunked: bool = True
    """Whether prompts are cut into chunks to fit."""

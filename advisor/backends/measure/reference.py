"""The baseline's log-probabilities on a text, in one file that every later rung is compared with.

Small vocabularies are stored whole, in half precision. Of large ones the likeliest tokens of each position and the mass of the
others are stored: the divergence computed from those is a lower bound of the true one.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.profiles.errors import AdvisorError
from advisor.profiles.files import replacing

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

WHOLE_VOCABULARY = 16_384
"""Vocabularies up to this size are stored whole."""
STORED_TOKENS = 512
"""Likeliest tokens per position that are stored of a larger vocabulary."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Windows [W, T] of token ids and the baseline's predictions at their T-1 next-token positions."""

    windows: "torch.Tensor"
    nll: "torch.Tensor"
    """[W, T-1] negative log-likelihood of the next token, in nats."""
    top1: "torch.Tensor"
    """[W, T-1] the likeliest token."""
    log_probs: "torch.Tensor"
    """[W, T-1, K] log-probabilities in half precision; K is the vocabulary, or `STORED_TOKENS` and one for all others."""
    ids: "torch.Tensor | None"
    """[W, T-1, K-1] tokens of `log_probs`; `None` when it covers the whole vocabulary."""

    def divergence(self, window: int, log_probs: "torch.Tensor") -> "torch.Tensor":
        """KL(baseline || candidate) at each position of `window`, nats [T-1]; `log_probs` [T-1, V] is the candidate's."""
        base = self.log_probs[window].float().log_softmax(-1)
        other = log_probs if self.ids is None else _shortened(log_probs, self.ids[window].long())
        return (base.exp() * (base - other)).sum(-1)


def collect(
    windows: "torch.Tensor",
    log_probs: "Iterable[torch.Tensor]",
    *,
    whole_vocabulary: int = WHOLE_VOCABULARY,
    stored_tokens: int = STORED_TOKENS,
) -> Reference:
    """The reference of `windows` [W, T] from the log-probabilities [T-1, V] of each window, in order.

    Of a vocabulary above `whole_vocabulary`, the `stored_tokens` likeliest of each position are stored.
    """
    import torch

    nll, top1, stored, ids = [], [], [], []
    for window, scores in zip(windows, log_probs, strict=True):
        nll.append(token_nll(window, scores))
        top1.append(scores.argmax(-1))
        if scores.shape[-1] <= whole_vocabulary:
            stored.append(scores.half())
        else:
            likeliest = scores.topk(stored_tokens).indices
            ids.append(likeliest.int())
            stored.append(_shortened(scores, likeliest).half())
    return Reference(windows, torch.stack(nll), torch.stack(top1), torch.stack(stored), torch.stack(ids) if ids else None)


def token_nll(window: "torch.Tensor", log_probs: "torch.Tensor") -> "torch.Tensor":
    """Negative log-likelihood [T-1] of each token of `window` [T] after its first."""
    return -log_probs.gather(-1, window[1:, None]).squeeze(-1)


def _shortened(log_probs: "torch.Tensor", ids: "torch.Tensor") -> "torch.Tensor":
    """[T-1, K]: the log-probabilities of `ids` [T-1, K-1] and, last, of all other tokens together."""
    import torch

    chosen = log_probs.gather(-1, ids)
    rest = torch.log1p(-chosen.exp().sum(-1, keepdim=True).clamp(max=1 - 1e-7))
    return torch.cat([chosen, rest], dim=-1)


def save_reference(reference: Reference, file: Path) -> None:
    """Write `reference` to `file` atomically. Raises `AdvisorError` as `write_whole` does."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {"windows": reference.windows, "nll": reference.nll, "top1": reference.top1, "kept": reference.log_probs}
    if reference.ids is not None:
        tensors["ids"] = reference.ids
    with replacing(file) as draft:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft)
        except SafetensorError as error:
            raise _system_error(error) from error


def _system_error(error: Exception) -> OSError:
    """The error of the operating system that a message of safetensors ends with: `... (os error 28)`."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))


def load_reference(file: Path) -> Reference:
    """Read the file that `save_reference` wrote. Raises `AdvisorError` `reference-missing`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
        return Reference(tensors["windows"], tensors["nll"], tensors["top1"], tensors["kept"], tensors.get("ids"))
    except (OSError, SafetensorError, KeyError) as error:
        raise AdvisorError(
            "reference-missing",
            f"the baseline's log-probabilities cannot be read from {file.name}: {error}",
            help=("run the baseline again",),
            file=str(file),
        ) from error

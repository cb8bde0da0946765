"""Whether a forward pass gives the model's own tokens: compared once, then looked up."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from advisor.backends.runtime.model.attention_hook import unsupported
from advisor.backends.runtime.model.probe import Forward
from advisor.backends.runtime.model.transformers_private import attention_as, without_run_settings
from advisor.backends.runtime.model.verification import OwnDifferenceError, OwnText, Verification, length_limit, own_text, text_tokens
from advisor.profiles.verdicts import Verdict, digest_of, read_verdict, write_verdict


def check_length(model: Any, max_tokens: int) -> None:
    """Raise `AdvisorError` `unsupported-model` where sequences of `max_tokens` outgrow the model's rotary frequencies."""
    limit = length_limit(model)
    if limit is None or max_tokens <= limit[1]:
        return
    kind, tokens = limit
    raise unsupported(
        type(model).__name__,
        f"sequences of up to {max_tokens:,} tokens cross the {tokens:,} after which its rotary frequencies change ({kind})",
        f"a context of at most {tokens} tokens keeps to one set of frequencies: --context {tokens}",
    )


class ModelCheck:
    """Compares forward passes of a model with the model alone, for sequences of up to `max_tokens` tokens.

    `windows` are those of the layers. The model's own texts cost some passes, and are made only where the verdict on one of the
    `forwards`, names of classes, is not stored: now, as a later forward pass may take the model's weights.
    """

    def __init__(self, model: Any, windows: Sequence[int | None], max_tokens: int, forwards: Sequence[str]) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self._own: tuple[OwnText, OwnText] | str | None = None
        if any(read_verdict(_digest(model, name, max_tokens)) is None for name in forwards):
            self._own = _own_texts(model, text_tokens(model, windows, max_tokens))

    def fault_of(self, forward: Forward) -> str | None:
        """What `forward` computes otherwise than the model alone; `None` for nothing. A new verdict is stored."""
        digest = _digest(self.model, type(forward).__name__, self.max_tokens)
        verdict = read_verdict(digest)
        if verdict is None:
            verdict = Verdict(self._compare(forward))
            write_verdict(digest, verdict)
        return verdict.fault

    def _compare(self, forward: Forward) -> str | None:
        assert self._own is not None, "the forward pass was named before"
        if isinstance(self._own, str):
            return self._own
        with torch.inference_mode():
            return Verification(self.model, forward, self._own, self.max_tokens).fault()


def _own_texts(model: Any, tokens: int) -> tuple[OwnText, OwnText] | str:
    """Two texts, the longer one of `tokens` tokens, or why the model's own code has no answer to compare with."""
    with torch.inference_mode(), attention_as(model, "eager"):
        try:
            return own_text(model, max(1, tokens // 2)), own_text(model, tokens)
        except OwnDifferenceError as error:
            return str(error)


def _digest(model: Any, forward: str, max_tokens: int) -> str:
    """The digest of everything but the weights that the verdict depends on."""
    return digest_of(
        {
            "config": without_run_settings(model.config),
            "class": f"{type(model).__module__}.{type(model).__qualname__}",
            "forward": forward,
            "type": str(model.dtype),
            "device": model.device.type,
            "tokens": max_tokens,
            "transformers": version("transformers"),
            "torch": version("torch"),
            "runtime": _sources(),
        }
    )


@cache
def _sources() -> str:
    """The digest of the modules that compute or judge the forward pass."""
    content = hashlib.sha256(version("advisor").encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        content.update(file.read_bytes())
    return content.hexdigest()

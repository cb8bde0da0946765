"""Refuses models whose own tokens the runtime does not give: found by comparison once, then looked up."""

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
from advisor.backends.runtime.model.verification import Verification, length_limit, own_logits, text_tokens
from advisor.profiles.verdicts import Verdict, digest_of, read_verdict, write_verdict


def refuse_wrong(model: Any, forward: Forward, windows: Sequence[int | None], max_tokens: int) -> None:
    """Raise `AdvisorError` `unsupported-model` where `forward` gives other tokens than the model alone, within `max_tokens` tokens.

    `windows` are those of the layers. The comparison costs some forward passes of short texts, the first time that the model's config is
    seen; its verdict is stored.
    """
    name, limit = type(model).__name__, length_limit(model)
    if limit is not None and max_tokens > limit[1]:
        kind, tokens = limit
        raise unsupported(
            name,
            f"sequences of up to {max_tokens:,} tokens cross the {tokens:,} after which its rotary frequencies change ({kind})",
            f"a context of at most {tokens} tokens keeps to one set of frequencies: --context {tokens}",
        )
    digest = _digest(model, max_tokens)
    verdict = read_verdict(digest)
    if verdict is None:
        verdict = Verdict(_fault(model, forward, windows, max_tokens))
        write_verdict(digest, verdict)
    if verdict.fault is not None:
        raise unsupported(name, verdict.fault)


def _fault(model: Any, forward: Forward, windows: Sequence[int | None], max_tokens: int) -> str | None:
    tokens = text_tokens(model, windows, max_tokens)
    with torch.inference_mode():
        with attention_as(model, "eager"):
            own = own_logits(model, max(1, tokens // 2)), own_logits(model, tokens)
        return Verification(model, forward, own, max_tokens).fault()


def _digest(model: Any, max_tokens: int) -> str:
    """The digest of everything but the weights that the verdict depends on."""
    return digest_of(
        {
            "config": without_run_settings(model.config),
            "class": f"{type(model).__module__}.{type(model).__qualname__}",
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

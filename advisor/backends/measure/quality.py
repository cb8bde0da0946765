"""Quality on a text: perplexity, paired difference of log-likelihood, KL divergence and top-1 agreement with the baseline.

The candidate is scored through the path that it serves with: its weights, its attention and its key-value cache.
"""

from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.backends.measure.reference import Reference, collect, load_reference, save_reference, token_nll
from advisor.backends.measure.score import window_log_probs
from advisor.backends.measure.spread import mean_value
from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.errors import AdvisorError
from advisor.profiles.metrics import Basis, Metrics, Value

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

WINDOW_TOKENS = 512
"""Longest window; shorter when the model's context is, or when the text is too short for two windows."""


def token_windows(tokens: "torch.Tensor", *, tokens_wanted: int, longest: int) -> "torch.Tensor":
    """Cut [W, T] windows from `tokens` [N], spread evenly over the text, about `tokens_wanted` in all.

    A window has at most `longest` tokens. Raises `AdvisorError` `text-too-short` when the text is too short for two windows of 16 tokens.
    """
    import torch

    length = min(WINDOW_TOKENS, longest, len(tokens) // 2)
    if length < 16:
        raise AdvisorError("text-too-short", f"the text for measuring quality has {len(tokens)} tokens; at least 32 are needed")
    fitting = len(tokens) // length
    count = max(2, min(fitting, -(-tokens_wanted // length)))
    return torch.stack([tokens[index * length :][:length] for index in (number * fitting // count for number in range(count))])


def measure_baseline(session: LoadedModel, windows: "torch.Tensor", file: Path, on_window: Callable[[int, int], None]) -> Metrics:
    """Score the unmodified model on `windows` [W, T], write its log-probabilities to `file` and return its metrics.

    The perplexity is that of this text and has no range; differences from the baseline are zero by definition.
    """
    reference = collect(windows, window_log_probs(session, windows, on_window))
    save_reference(reference, file)
    return Metrics(
        perplexity=Value.exact(exp(reference.nll.mean().item()), Basis.MEASURED),
        quality_loss_pct=Value.exact(0.0),
        nll_difference=Value.exact(0.0),
        kl_divergence=Value.exact(0.0),
        top1_agreement=Value.exact(1.0),
    )


def measure_candidate(session: LoadedModel, file: Path, on_window: Callable[[int, int], None]) -> Metrics:
    """Score the modified model on the windows of `file` and compare it with the baseline, window by window."""
    reference = load_reference(file)
    differences, divergences, agreements = [], [], []
    for index, scores in enumerate(window_log_probs(session, reference.windows, on_window)):
        differences.append((token_nll(reference.windows[index], scores) - reference.nll[index]).mean().item())
        divergences.append(max(0.0, reference.divergence(index, scores).mean().item()))
        agreements.append((scores.argmax(-1) == reference.top1[index]).float().mean().item())
    return _comparison(reference, differences, divergences, agreements)


def _comparison(reference: Reference, differences: list[float], divergences: list[float], agreements: list[float]) -> Metrics:
    shift, base_nll = mean_value(differences), reference.nll.mean().item()
    return Metrics(
        perplexity=_mapped(shift, lambda nats: exp(base_nll + nats)),
        quality_loss_pct=_mapped(shift, lambda nats: (exp(nats) - 1) * 100),
        nll_difference=shift,
        kl_divergence=mean_value(divergences, least=0.0),
        top1_agreement=mean_value(agreements, least=0.0, most=1.0),
    )


def _mapped(shift: Value, increasing: Callable[[float], float]) -> Value:
    """The value and its range under an increasing function."""
    return Value(value=increasing(shift.value), low=increasing(shift.low), high=increasing(shift.high), basis=Basis.MEASURED)

"""Compares the runtime's forward pass of a model with the model's own, eager and one sequence at a time, before its first use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advisor.backends.model.quantised_linear import QuantisedLinear
from advisor.backends.runtime.model.probe import Forward, ProbeAttention, ProbeRows, difference, probe_ids, probe_rows, spread_positions

SHORT_TEXT = 24
"""Tokens of the longer of two texts on a large model."""
SHORT_WINDOW = 128
"""Longest window that a text on a large model outgrows; longer ones are read from the masks alone."""
GENERATED = 4
"""Tokens of each text that the model generates."""
LONG_TEXT = 256
"""Most tokens of the longer text."""
CHEAP_OPERATIONS = 3e9
"""Operations of one pass over a text that is as long as the longest sequence: a fraction of a second on one core."""
ROWS_ALLOWED = 0.25
"""Share of rows that may differ in two-byte types: where an expert's scores are nearly equal, rounding chooses another one."""
MOST_LENGTHS = 24
"""Most lengths of a sequence at which dependence on it is looked for, each about twice the one before."""
ROUNDED_TOLERANCE = 0.1
"""Relative difference of a row's logits that is no fault in two-byte types. Where an expert changes, rows of a 48-layer Mixtral of random
weights differ by up to 0.097; other positions or another mask differ by 0.4 and more."""
LENGTH_DEPENDENT = ("dynamic", "longrope")
"""Kinds of rotary embedding in transformers whose frequencies depend on the longest sequence of a call."""

Chunk = tuple[int, int, int]
"""A sequence, the first of its tokens, and the one after the last."""


def length_limit(model: Any) -> tuple[str, int] | None:
    """The kind of a rotary embedding whose frequencies change with the length, and the tokens up to which they do not."""
    config = model.config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    for group in (parameters, *(value for value in parameters.values() if isinstance(value, dict))):
        if group.get("rope_type") in LENGTH_DEPENDENT:
            trained = int(config.max_position_embeddings)
            if group["rope_type"] == "dynamic":  # whatever length its scaling starts from
                return "dynamic", trained
            original = group.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
            return str(group["rope_type"]), int(original or trained)
    return None


def tolerance(model: Any) -> float:
    """Relative difference of logits that rounding explains, in two-byte or four-byte types."""
    return 0.03 if is_rounded(model) else 1e-4


def is_rounded(model: Any) -> bool:
    """Whether the model computes in a two-byte type, or its weights are quantised."""
    return model.dtype.itemsize < 4 or any(isinstance(module, QuantisedLinear) for module in model.modules())


def text_tokens(model: Any, windows: Sequence[int | None], max_tokens: int) -> int:
    """Tokens of the longer of two texts: as many as the longest sequence where that is cheap, else more than twice the short windows."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if 2 * parameters * max_tokens <= CHEAP_OPERATIONS:
        return min(max_tokens, LONG_TEXT)
    short = [window for window in windows if window is not None and window <= SHORT_WINDOW]
    return min(max_tokens, max(SHORT_TEXT, 2 * max(short, default=0) + 4))


@dataclass(frozen=True, slots=True)
class OwnText:
    """A text and the model's own logits [T, V] of it, by one pass without a cache."""

    ids: tuple[int, ...]
    logits: Tensor


class OwnDifferenceError(Exception):
    """The model's own code contradicts itself; the text says how."""


def own_text(model: Any, tokens: int) -> OwnText:
    """A text of `tokens` tokens, of which the model generated the last ones; the model's attention is eager.

    Raises `OwnDifferenceError` where generating them, with a cache, gave other logits than one pass over the whole text.
    """
    new = min(GENERATED, tokens - 1)
    prompt = probe_ids(torch.arange(tokens - new, device=model.device), model).unsqueeze(0)
    ids, generated = generate(model, prompt, new)
    logits: Tensor = model(input_ids=ids, use_cache=False, return_dict=True).logits[0]
    if new:
        error = _difference(model, generated, logits[tokens - new - 1 : -1])
        if error is not None:
            raise OwnDifferenceError(f"its own decoding with a cache gives other logits than one pass (by {error:.1e} of their norm)")
    return OwnText(tuple(ids[0].tolist()), logits)


def greedy(new: int) -> dict[str, Any]:
    """The arguments with which `generate` of transformers writes exactly `new` tokens, each the likeliest."""
    lengths = {"min_new_tokens": new, "max_new_tokens": new}
    return {"do_sample": False, "num_beams": 1, **lengths, "eos_token_id": None, "pad_token_id": 0}


def generate(model: Any, prompt: Tensor, new: int) -> tuple[Tensor, Tensor]:
    """The prompt [1, P] with `new` tokens that transformers generates greedily [1, P + N], and the logits [N, V] of these."""
    if not new:
        return prompt, prompt.new_empty((0, 0))
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        **greedy(new),
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences, torch.cat(out.logits)


@dataclass(frozen=True, slots=True)
class Verification:
    """Checks of `forward` against two texts of the model's own, the first of them shorter."""

    model: Any
    forward: Forward
    own: tuple[OwnText, OwnText]
    max_tokens: int

    def fault(self) -> str | None:
        """What is wrong, as a sentence; `None` where every check finds equal logits."""
        lengths = tuple(len(text.ids) for text in self.own)
        for steps, why in (
            ([[(1, 0, lengths[1])]], "under causal attention and positions counted from 0, its logits differ from those of its own code"),
            ([_interleaved(lengths)], "its tokens depend on other sequences of a step: its positions are not `position_ids`"),
            (_chunks(lengths), "prompts in chunks give other tokens than whole ones: it keeps a state besides keys and values"),
        ):
            error = self._error(steps)
            if error is not None:
                return f"{why} (by {error:.1e} of their norm)"
        error = self._error_by_length()
        return None if error is None else f"its tokens depend on the longest sequence of a step (by {error:.1e} of the logits' norm)"

    def _error(self, steps: Sequence[Sequence[Chunk]]) -> float | None:
        """How the logits of both texts, passed in these chunks, differ from the model's own."""
        probe, parts, rows = ProbeAttention(self.model.device), list[Tensor](), list[tuple[int, int]]()
        for chunks in steps:
            step = [(sequence, index) for sequence, start, stop in chunks for index in range(start, stop)]
            sequences, indices = zip(*step, strict=True)
            ids = [self.own[sequence].ids[index] for sequence, index in step]
            parts.append(probe.run(self.forward, ProbeRows(sequences, ids, indices)))
            rows += step
        own = torch.stack([self.own[sequence].logits[index] for sequence, index in rows])
        return _difference(self.model, torch.cat(parts), own)

    def _error_by_length(self) -> float | None:
        """How the logits of a sequence's first tokens differ with the position of its last one.

        The shortest is computed last: it resets frequencies that a model stores.
        """
        positions = spread_positions(self.max_tokens, min(self.max_tokens.bit_length(), MOST_LENGTHS) + 1)
        whole = self._prefix(positions)
        ends = [index + 1 for index in range(len(positions) - 1) if positions[index + 1] > positions[index] + 1]
        errors = [_difference(self.model, self._prefix(positions[:end]), whole[:end]) for end in [*reversed(ends), 1]]
        return max((error for error in errors if error is not None), default=None)

    def _prefix(self, positions: Sequence[int]) -> Tensor:
        return ProbeAttention(self.model.device).run(self.forward, probe_rows(self.model, positions))


def _difference(model: Any, ours: Tensor, theirs: Tensor) -> float | None:
    if is_rounded(model):
        return difference(ours, theirs, ROUNDED_TOLERANCE, ROWS_ALLOWED)
    return difference(ours, theirs, tolerance(model))


def _interleaved(lengths: Sequence[int]) -> list[Chunk]:
    """Every token of all sequences in one step, in an order that is none of theirs."""
    rows = [(sequence, index, index + 1) for sequence, length in enumerate(lengths) for index in range(length)]
    return sorted(rows, key=lambda row: (row[1] * 5 % 7, -row[1], row[0]))


def _chunks(lengths: Sequence[int]) -> list[list[Chunk]]:
    """Steps with a chunk of each sequence, of different sizes, and with single tokens at the end."""
    return list(_steps(lengths, sizes=[3 + length // (5 + 2 * sequence) for sequence, length in enumerate(lengths)], singles=3))


def _steps(lengths: Sequence[int], sizes: Sequence[int], singles: int) -> Iterator[list[Chunk]]:
    passed = [0] * len(lengths)
    while any(at < length for at, length in zip(passed, lengths, strict=True)):
        step: list[Chunk] = []
        for sequence, (at, length, size) in enumerate(zip(passed, lengths, sizes, strict=True)):
            count = 1 if length - at <= singles else min(size, length - singles - at)
            if at < length:
                step.append((sequence, at, at + count))
                passed[sequence] = at + count
        yield step

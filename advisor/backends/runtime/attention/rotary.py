"""Rotary position embeddings of a model: its frequencies, found by probing it, and re-rotation to earlier positions.

Half-split convention: the pairs of a head are its element i and its element i + R/2 of the R first ones (`rotate_half` of
transformers). Angles are position times frequency, so that rotating a vector back by n positions gives that of n positions earlier.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advisor.backends.runtime.model.probe import probe_ids
from advisor.profiles.errors import AdvisorError, ExitCode

PROBE_TOKENS = 4
"""Tokens of the probe, all at one position."""
PROBE_POSITION = 7
"""A position at which the fastest pair is rotated by more than a full circle and the slowest by almost nothing."""
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
"""Largest relative difference that counts as equal; half precision rounds every element to about 1/256."""


def rerotate(rows: Tensor, distances: Tensor, frequencies: Tensor) -> Tensor:
    """Rotated vectors [T, H, D] at positions `distances` [T] earlier; `frequencies` [R/2] rotate the first R elements."""
    width = 2 * frequencies.shape[0]
    wide = torch.promote_types(rows.dtype, torch.float32)
    angles = -distances.double().unsqueeze(-1) * frequencies.double()
    cosines, sines = angles.cos().to(wide).unsqueeze(1), angles.sin().to(wide).unsqueeze(1)
    early, late = rows[..., :width].to(wide).chunk(2, -1)
    rerotated = torch.cat([early * cosines - late * sines, late * cosines + early * sines], -1)
    return torch.cat([rerotated.to(rows.dtype), rows[..., width:]], -1)


def rotary_frequencies(model: Any, forward: Callable[..., Tensor], layers: int) -> tuple[Tensor, ...]:
    """The rotary frequencies of each layer, found by re-rotating a token's vectors from one position to another.

    Raises `AdvisorError` `unsupported-model` for learned or linear positions, other conventions, and angles that change with the length.
    """
    kind = (getattr(model.config.get_text_config(), "rope_parameters", None) or {}).get("rope_type", "default")
    if kind in ("dynamic", "longrope"):
        raise _not_rotary(model, f"its rotary angles change with the length ({kind})")
    candidates, start, later = _candidates(model), _Vectors(model, forward, 0), _Vectors(model, forward, PROBE_POSITION)
    matches = [_matching(candidates, start.of[layer], later.of[layer]) for layer in range(layers)]
    if None in matches:
        raise _not_rotary(model, f"layer {matches.index(None)} has no rotary positions of the half-split kind")
    return tuple(frequencies for frequencies in matches if frequencies is not None)


class _Vectors:
    """Rotated queries and keys of a few tokens at one position, by layer. Returns the values as attention output."""

    def __init__(self, model: Any, forward: Callable[..., Tensor], position: int) -> None:
        self.of: dict[int, Tensor] = {}
        count = torch.arange(PROBE_TOKENS, device=model.device)
        with torch.inference_mode():
            forward(self, probe_ids(count, model), torch.full_like(count, position), count)

    def attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: object) -> Tensor:
        """See `Attends`."""
        self.of[layer] = torch.cat([queries, keys], 1)
        return values.repeat_interleave(queries.shape[1] // values.shape[1], 1)


def _candidates(model: Any) -> list[Tensor]:
    """Every distinct set of rotary frequencies that the model's modules hold."""
    matches: list[Tensor] = []
    for name, buffer in model.named_buffers():
        if name.endswith("inv_freq") and not any(
            torch.equal(buffer, candidates) for candidates in matches if candidates.shape == buffer.shape
        ):
            matches.append(buffer)
    return matches


def _matching(candidates: list[Tensor], start: Tensor, later: Tensor) -> Tensor | None:
    """The frequencies that re-rotate `later` [T, H, D], vectors at `PROBE_POSITION`, to `start`, those at position 0."""
    distances = torch.full((later.shape[0],), PROBE_POSITION, device=later.device)
    for frequencies in candidates:
        if 2 * frequencies.shape[0] > later.shape[-1]:
            continue
        error = (rerotate(later, distances, frequencies) - start).float().norm()
        if start.float().norm() > 0 and error <= TOLERANCE.get(later.dtype, 2e-2) * start.float().norm():
            return frequencies
    return None


def _not_rotary(model: Any, why: str) -> AdvisorError:
    return AdvisorError(
        "unsupported-model",
        f"the first tokens of {type(model).__name__} cannot take positions within the cache: {why}",
        exit_code=ExitCode.FAILED,
        help=("kv-window keeps true positions and needs no rotation",),
    )

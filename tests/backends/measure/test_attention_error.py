"""Errors of attention outputs, head by head, are those of the session's own cache and visibility, and of nothing else."""

from __future__ import annotations

from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from advisor.backends.model.load import load_session
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.techniques import by_name
from advisor.profiles.quality import HeadError
from tests.backends.sessions import with_settings

if TYPE_CHECKING:
    import torch

    from advisor.backends.runtime.model.attention_hook import Options

LAYERS, HEADS = 2, 4


@pytest.fixture(scope="module")
def session(tiny_model_folder: Path) -> LoadedModel:
    return by_name("kv-paged", {"block_tokens": 8}).apply(load_session(tiny_model_folder, max_tokens=48))


@pytest.fixture(scope="module")
def stretches() -> torch.Tensor:
    import torch

    return torch.randint(2, 320, (2, 48), generator=torch.Generator().manual_seed(0))


def errors_of(session: LoadedModel, stretches: torch.Tensor, **altered: LoadedModel) -> dict[str, tuple[HeadError, ...]]:
    from advisor.backends.measure.attention_error import attention_errors

    return attention_errors(session, altered, stretches, lambda done, total: None)


def test_every_head_of_every_layer_is_reported_and_an_exact_cache_has_no_error(session: LoadedModel, stretches: torch.Tensor) -> None:
    errors = errors_of(session, stretches, same=session)["same"]
    assert [(error.layer, error.head) for error in errors] == [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    assert max(error.error for error in errors) == 0


def test_errors_grow_as_formats_keep_fewer_bits(session: LoadedModel, stretches: torch.Tensor) -> None:
    formats = {name: with_settings(session, kv_format=name) for name in ("int8", "fp8", "int4")}
    errors = errors_of(session, stretches, **formats)
    worst = [max(error.error for error in errors[name]) for name in formats]
    assert 0 < worst[0] < worst[1] < worst[2] < 0.5, worst


def test_a_window_as_long_as_the_text_costs_nothing_and_a_short_one_does(session: LoadedModel, stretches: torch.Tensor) -> None:
    errors = errors_of(session, stretches, short=with_settings(session, kv_window=8), whole=with_settings(session, kv_window=48))
    assert max(error.error for error in errors["whole"]) == 0
    assert min(error.error for error in errors["short"]) > 0.01


class FirstLayerReached(Exception):  # noqa: N818 - no error
    """Ends a forward pass at the first layer's attention, with what that is given."""

    def attend_rows(self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, options: Options) -> torch.Tensor:
        raise FirstLayerReached(queries.float(), keys.float(), values.float(), options)


def first_layer(session: LoadedModel, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Options]:
    """Queries, keys, values and options of the first layer on the tokens."""
    import torch

    from advisor.backends.runtime.model.forward import prepared

    with ExitStack() as undo:
        ready = prepared(session.model, undo)
        undo.enter_context(torch.inference_mode())
        positions = torch.arange(len(tokens))
        with pytest.raises(FirstLayerReached) as reached:
            ready.forward(FirstLayerReached(), tokens, positions, positions[-1:])
        queries, keys, values, options = reached.value.args
        return queries, keys, values, options


def test_an_error_is_the_norm_of_the_difference_over_the_norm(session: LoadedModel, stretches: torch.Tensor) -> None:
    """Of the first layer and one stretch, against the definition in double precision."""
    import torch

    from advisor.kernels.attention.paged_attention import reference
    from advisor.kernels.cache.kv_formats import dequantise, quantise

    errors = errors_of(session, stretches[:1], int8=with_settings(session, kv_format="int8"))["int8"][:HEADS]
    (queries, keys, values, options), positions = first_layer(session, stretches[0]), torch.arange(48)

    def defined(keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        cached_keys, cached_values = (rows.transpose(0, 1).unsqueeze(0) for rows in (keys, values))
        return reference(
            queries.double(), cached_keys, cached_values, torch.zeros(48, 1, dtype=torch.int64), positions, scale=options.scale
        )

    rounded = (dequantise(*quantise(rows, "int8"), "int8", torch.float32) for rows in (keys, values))
    exact = defined(keys, values)
    expected = (defined(*rounded) - exact).square().sum((0, 2)).sqrt() / exact.square().sum((0, 2)).sqrt()
    assert [error.error for error in errors] == pytest.approx(expected.tolist(), rel=1e-3)


def test_int4_keeps_what_fits_in_its_newest_page(session: LoadedModel, stretches: torch.Tensor) -> None:
    """In the contiguous layout a page is longer than the text."""
    contiguous = with_settings(session, kv_layout="contiguous", kv_format="int4")
    errors = errors_of(session, stretches, near=contiguous, far=with_settings(session, kv_format="int4"))
    near, far = (max(error.error for error in errors[name]) for name in ("near", "far"))
    assert near < 1e-5 < far
    assert all(isfinite(error.error) for error in errors["far"])

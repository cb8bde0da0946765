"""Fixtures of the kernels' tests."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fresh memory holds NaN, so that an element that is not written shows."""
    import torch

    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)

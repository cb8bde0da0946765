"""The interface of the attention autotuner for a loaded model; `advisor.backends.runtime.attention.autotune` implements it."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # loading torch takes seconds
    from torch import Tensor


class TunedAttention(Protocol):
    """Computes attention by the backend that was measured to be fastest for the shape."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each shape: the chosen backend and the times of all."""
        ...

    @property
    def is_tuning(self) -> bool:
        """Whether new shapes are timed now."""
        ...

    def tuning(self, seconds: float) -> AbstractContextManager[None]:
        """Context in which new shapes are timed, for at most `seconds`."""
        ...

    def compute(self, call: Any) -> "Tensor":
        """The attention of an `advisor.backends.runtime.attention.exact.Call`."""
        ...

"""What a loaded model knows of the attention autotuner; `advisor.backends.runtime.attention.autotune` implements it."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # loading torch takes seconds
    from torch import Tensor


class TunedAttention(Protocol):
    """Computes attention by the backend that was measured to be fastest for the shape."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence a shape: the backend chosen and the time of each."""
        ...

    @property
    def is_tuning(self) -> bool:
        """Whether shapes that are new are timed now."""
        ...

    def tuning(self, seconds: float) -> AbstractContextManager[None]:
        """While entered, and for `seconds` at most, shapes that are new are timed."""
        ...

    def compute(self, call: Any) -> "Tensor":
        """The attention of an `advisor.backends.runtime.attention.exact.Call`."""
        ...

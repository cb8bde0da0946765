"""Converts out-of-memory errors of the allocators into `AdvisorError`."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from advisor.profiles.errors import AdvisorError, ExitCode

_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


@contextmanager
def memory_errors(doing: str) -> Iterator[None]:
    """Raise `AdvisorError` `out-of-memory`, with `doing` in its message, when an allocation inside fails."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise AdvisorError(
            "out-of-memory",
            f"memory ran out during {doing}",
            exit_code=ExitCode.DIED,
            notes=(str(error).splitlines()[0] if str(error) else type(error).__name__,),
            help=("lower the number of sequences or the context, or choose a smaller cache or weight format",),
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error is an allocator's: Python's, CUDA's, or the CPU's, which is a plain `RuntimeError`."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in text for sign in _SIGNS)

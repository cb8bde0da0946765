"""Launch sizes that several kernels share: programs that fill a device, widths that matrix instructions take."""

PROGRAMS = 2 * 132
"""Programs that fill an H200: two per multiprocessor, of which it has 132 (NVIDIA's data sheet)."""
NARROWEST = 16
"""Smallest side of a tile that `tl.dot` multiplies."""


def padded(width: int) -> int:
    """`width` padded to a power of two of at least `NARROWEST`, as matrix instructions require.

    >>> padded(1), padded(80), padded(128)
    (16, 128, 128)
    """
    return max(NARROWEST, power_of_two(width))


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below `count`.

    >>> power_of_two(0), power_of_two(1), power_of_two(5)
    (1, 1, 8)
    """
    return 1 << (count - 1).bit_length() if count > 1 else 1

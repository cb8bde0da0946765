"""Sizes of launches that several kernels share: programs that keep a device busy, widths that matrix instructions take."""

PROGRAMS = 2 * 132
"""Programs that keep the largest device busy: two for each multiprocessor of an H200 (NVIDIA's data sheet counts 132)."""
NARROWEST = 16
"""Least size of each side of a tile that `tl.dot` multiplies."""


def padded(width: int) -> int:
    """The power of two, `NARROWEST` at least, that `width` is padded to for matrix instructions.

    >>> padded(1), padded(80), padded(128)
    (16, 128, 128)
    """
    return max(NARROWEST, power_of_two(width))


def power_of_two(count: int) -> int:
    """The least power of two that is `count` at least.

    >>> power_of_two(0), power_of_two(1), power_of_two(5)
    (1, 1, 8)
    """
    return 1 << (count - 1).bit_length() if count > 1 else 1

"""Sizes of memory in bytes."""

GIB = 2**30
"""Bytes of a gibibyte (IEC 80000-13)."""

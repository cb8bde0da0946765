"""Names of integer formats with groups of weights that share a scale; the grammar is that of `formats.py`."""

from advisor.profiles.architectures.fields import Fields

SYMMETRIC, PACKED_ZEROS, GPTQ, HQQ, MLX = "sym", "zp", "gptq", "hqq", "mlx"
"""Layouts: a 16-bit scale a group; with zero points as wide as the weights; with GPTQ's `g_idx` too; those of HQQ and MLX."""
BITS = (2, 3, 4, 5, 6, 7, 8)


def integers(fields: Fields, bits: int, group: int | None, layout: str = "") -> str:
    """The format of `bits`-bit integers in groups of `group` weights, one for each output channel where it is `None`.

    Without a layout a group has a scale and a zero point or bias of 16 bits each. Raises `AdvisorError` for other bits.
    """
    if bits not in BITS:
        raise fields.problem(f"{bits}-bit integers are not supported", "known are " + ", ".join(map(str, BITS)) + " bits")
    return f"int{bits}-{f'g{group}' if group else 'channel'}" + (f"-{layout}" if layout else "")


def group_size(fields: Fields, *names: str, default: int | None = None) -> int | None:
    """The positive group size under the first of `names` that is set; `None` for -1 and null, which mean the whole row."""
    for name in names or ("group_size", "q_group_size"):
        if name in fields.values:
            value = fields.values[name]
            return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
    return default

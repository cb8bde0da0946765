"""Round float32 to the nearest in Triton, ties to even: to integers, and to the bytes of float8_e4m3fn."""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import triton
import triton.language as tl


@triton.jit
def nearest_integer(number):
    """`number`, below 2^22 in size, to the nearest integer, ties to even: 1.5·2^23 leaves no room for a fraction."""
    return (number + 12582912.0).to(tl.int32, bitcast=True) - 0x4B400000


@triton.jit
def e4m3(number):
    """The byte of float8_e4m3fn nearest to `number`, ties to even, for |number| ≤ 448: for GPUs without the conversion too."""
    bits = number.to(tl.int32, bitcast=True)
    size = bits & 0x7FFFFFFF
    # keep three bits of the mantissa; then the exponent counts from 7 instead of 127
    normal = ((size + 0x7FFFF + ((size >> 20) & 1)) >> 20) - (120 << 3)
    subnormal = nearest_integer(tl.abs(number) * 512.0)
    return tl.where(size < 0x3C800000, subnormal, normal) | ((bits >> 24) & 0x80)

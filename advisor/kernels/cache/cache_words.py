"""Unpacks the 16-bit words of a stored cache row to float16 numbers, up to a power of two, in one or two instructions each.

A word holds neighbouring dims: two bytes of fp8 or int8 (even dim low), four nibbles of int4 (dim 4i lowest). Plane p of a row of words
is the dims ≡ p modulo the dims of a word, so planes need no shuffle: queries and outputs are accessed at that stride. All numbers are
exact in float16.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, assignment"
import triton
import triton.language as tl

PLANES = {"bf16": 1, "fp8": 2, "int8": 2, "int4": 4}
"""Dims per word; `bf16` stands for the model's own type."""


@triton.jit
def plane(words, FORMAT: tl.constexpr, AT: tl.constexpr, ASM: tl.constexpr):
    """Plane `AT` of int16 `words` in float16: elements times 2**-8 in fp8, levels in int8, 2**-24 levels from 0 to 15 in int4.

    Odd planes of int4 are 16 times as large: a nibble stays in place as the mantissa of a subnormal number, which matrix instructions
    multiply exactly. Both branches of `ASM` give the same bits; the interpreter has no inline assembly.
    """
    if FORMAT == "fp8":
        numbers = _fp8(words, AT, ASM)
    elif FORMAT == "int8":
        numbers = _int8(words, AT, ASM)
    else:
        numbers = _int4(words, AT, ASM)
    return numbers


@triton.jit
def _int8(words, AT: tl.constexpr, ASM: tl.constexpr):
    """0x6480 is 1152 in float16: flipping the sign bit of a byte under it adds the byte's value."""
    if ASM:
        if AT == 0:
            numbers = tl.inline_asm_elementwise(
                "{ .reg .b32 t, c; mov.b32 c, 0x64806480; lop3.b32 t, $1, 0x00ff00ff, c, 0x6a; sub.f16x2 $0, t, c; }",
                "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2,
            )  # fmt: skip
        else:
            numbers = tl.inline_asm_elementwise(
                "{ .reg .b32 t, c; mov.b32 c, 0x64806480; shr.u32 t, $1, 8; lop3.b32 t, t, 0x00ff00ff, c, 0x6a; sub.f16x2 $0, t, c; }",
                "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2,
            )  # fmt: skip
    else:
        numbers = (((words >> (8 * AT)) & 0xFF) ^ 0x6480).to(tl.float16, bitcast=True) - 1152.0
        numbers = numbers.to(tl.float16)
    return numbers


@triton.jit
def _fp8(words, AT: tl.constexpr, ASM: tl.constexpr):
    """The seven bits below the sign are the top of float16's exponent and mantissa, 2**8 too small; subnormal numbers too."""
    if ASM:
        if AT == 0:
            numbers = tl.inline_asm_elementwise(
                "{ .reg .b32 a, b; shl.b32 a, $1, 7; shl.b32 b, $1, 8; and.b32 b, b, 0x80008000; lop3.b32 $0, a, 0x3f803f80, b, 0xea; }",
                "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2,
            )  # fmt: skip
        else:
            numbers = tl.inline_asm_elementwise(
                "{ .reg .b32 a, b; shr.u32 a, $1, 1; and.b32 b, $1, 0x80008000; lop3.b32 $0, a, 0x3f803f80, b, 0xea; }",
                "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2,
            )  # fmt: skip
    else:
        byte = words << (8 * (1 - AT))
        numbers = ((byte & -0x8000) | ((byte >> 1) & 0x3F80)).to(tl.float16, bitcast=True)
    return numbers


@triton.jit
def _int4(words, AT: tl.constexpr, ASM: tl.constexpr):
    if ASM:
        if AT == 0:
            numbers = tl.inline_asm_elementwise(
                "and.b32 $0, $1, 0x000f000f;", "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2
            )  # fmt: skip
        elif AT == 1:
            numbers = tl.inline_asm_elementwise(
                "and.b32 $0, $1, 0x00f000f0;", "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2
            )  # fmt: skip
        elif AT == 2:
            numbers = tl.inline_asm_elementwise(
                "{ .reg .b32 t; shr.u32 t, $1, 8; and.b32 $0, t, 0x000f000f; }", "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2
            )  # fmt: skip
        else:
            numbers = tl.inline_asm_elementwise(
                "{ .reg .b32 t; shr.u32 t, $1, 8; and.b32 $0, t, 0x00f000f0; }", "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2
            )  # fmt: skip
    else:
        numbers = ((words >> (8 * (AT // 2))) & (0xF << (4 * (AT % 2)))).to(tl.float16, bitcast=True)
    return numbers

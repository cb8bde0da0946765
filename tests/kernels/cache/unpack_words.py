"""A Triton function that unpacks words of a cache row: the device code that `test_cache_words` checks."""

import triton
import triton.language as tl

from advisor.kernels.cache.cache_words import plane


@triton.jit  # type: ignore[untyped-decorator]
def unpack(words, out, FORMAT: tl.constexpr, STEP: tl.constexpr, ASM: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    at = tl.program_id(0) * 4096 + tl.arange(0, 4096)
    for p in tl.static_range(STEP):
        tl.store(out + at * STEP + p, plane(tl.load(words + at), FORMAT, p, ASM))

"""Numbers unpacked from words are the levels of the format, whatever the byte and whichever the instructions."""

import pytest
import torch
import triton
import triton.language as tl

from advisor.kernels.cache import kv_formats
from advisor.kernels.cache.cache_words import PLANES, plane


@triton.jit  # type: ignore[untyped-decorator]
def unpack(words, out, FORMAT: tl.constexpr, STEP: tl.constexpr, ASM: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    at = tl.program_id(0) * 4096 + tl.arange(0, 4096)
    for p in tl.static_range(STEP):
        tl.store(out + at * STEP + p, plane(tl.load(words + at), FORMAT, p, ASM))


def unpacked(kv_format: str, words: torch.Tensor, assembly: bool) -> torch.Tensor:
    step = PLANES[kv_format]
    out = torch.full((len(words), step), float("nan"), dtype=torch.float16, device=words.device)
    unpack[(len(words) // 4096,)](words, out, kv_format, step, assembly)
    return out


WORDS = torch.arange(-(2**15), 2**15).to(torch.int16)


@pytest.mark.parametrize("kv_format", kv_formats.FORMATS)
def test_every_word_gives_its_levels(kv_format: str) -> None:
    stored = WORDS.view(torch.uint8).view(-1, 2).view(kv_formats.stored_dtype(kv_format))
    wanted = kv_formats.levels(stored, kv_format, torch.float32).double()
    numbers = unpacked(kv_format, WORDS, assembly=False).double()
    if kv_format == "fp8":
        numbers *= 2**8
    elif kv_format == "int4":
        numbers = numbers * torch.tensor([2.0**24, 2.0**20] * 2) - 7.5
    known = ~wanted.isnan()
    assert torch.equal(numbers[known], wanted[known])
    assert bool(known.all()) or kv_format == "fp8"


@pytest.mark.gpu
@pytest.mark.parametrize("kv_format", kv_formats.FORMATS)
def test_assembly_gives_the_bits_of_the_plain_form(kv_format: str) -> None:
    plain, assembly = (unpacked(kv_format, WORDS.cuda(), asm).view(torch.int16) for asm in (False, True))
    assert torch.equal(plain, assembly)

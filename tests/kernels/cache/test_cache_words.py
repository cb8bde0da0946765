"""Numbers unpacked from words are the levels of the format, whatever the byte and whichever the instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch


def unpacked(kv_format: str, words: torch.Tensor, assembly: bool) -> torch.Tensor:
    import torch

    from advisor.kernels.cache.cache_words import PLANES
    from tests.kernels.cache.unpack_words import unpack

    step = PLANES[kv_format]
    out = torch.full((len(words), step), float("nan"), dtype=torch.float16, device=words.device)
    unpack[(len(words) // 4096,)](words, out, kv_format, step, assembly)
    return out


FORMATS = ("fp8", "int8", "int4")


def every_word() -> torch.Tensor:
    import torch

    return torch.arange(-(2**15), 2**15).to(torch.int16)


@pytest.mark.parametrize("kv_format", FORMATS)
def test_every_word_gives_its_levels(kv_format: str) -> None:
    import torch

    from advisor.kernels.cache import kv_formats

    words = every_word()
    stored = words.view(torch.uint8).view(-1, 2).view(kv_formats.stored_dtype(kv_format))
    expected = kv_formats.levels(stored, kv_format, torch.float32).double()
    numbers = unpacked(kv_format, words, assembly=False).double()
    if kv_format == "fp8":
        numbers *= 2**8
    elif kv_format == "int4":
        numbers = numbers * torch.tensor([2.0**24, 2.0**20] * 2) - 7.5
    finite = ~expected.isnan()
    assert torch.equal(numbers[finite], expected[finite])
    assert bool(finite.all()) or kv_format == "fp8"


@pytest.mark.gpu
@pytest.mark.parametrize("kv_format", FORMATS)
def test_assembly_gives_the_bits_of_the_plain_form(kv_format: str) -> None:
    import torch

    plain, assembly = (unpacked(kv_format, every_word().cuda(), asm).view(torch.int16) for asm in (False, True))
    assert torch.equal(plain, assembly)

"""Linears joined into one: the same numbers in the same memory, and refusals of those that do not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import nn

FORMS = ["bf16", "int8", "int4"]


def linear(form: str, k: int, n: int, *, bias: bool = False) -> nn.Module:
    import torch
    from torch import nn

    from advisor.backends.model.quantised_linear import Int4Linear, Int8Linear

    plain = nn.Linear(k, n, bias=bias, dtype=torch.bfloat16)
    return plain if form == "bf16" else Int8Linear(plain) if form == "int8" else Int4Linear(plain, 32)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("k", "widths"), [(128, (128, 64, 64)), (96, (64, 32, 32)), (40, (5, 70)), (64, (64, 33, 1))])
@pytest.mark.parametrize("rows", [1, 5, 130])
def test_joined_outputs_are_those_of_the_parts_side_by_side(form: str, k: int, widths: tuple[int, ...], rows: int) -> None:
    import torch

    from advisor.backends.model.fused_linear import fused_linear

    torch.manual_seed(0)
    parts = [linear(form, k, n, bias=n == 64) for n in widths]
    x = torch.randn(2, rows, k).to(torch.bfloat16)
    before = [part(x).detach() for part in parts]
    whole = fused_linear(parts)
    out = whole(x)
    assert out.shape == (2, rows, sum(widths))
    assert out.is_contiguous()
    for expected, part, view in zip(before, parts, out.split(list(widths), dim=-1), strict=True):
        torch.testing.assert_close(view, expected, rtol=2**-7, atol=1e-2)
        torch.testing.assert_close(part(x), expected, rtol=2**-7, atol=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_parts_and_whole_hold_one_memory(form: str) -> None:
    from torch import nn

    from advisor.backends.model.fused_linear import fused_linear
    from advisor.backends.model.quantised_linear import weight_bytes

    parts = [linear(form, 64, n) for n in (64, 128)]
    before = weight_bytes(nn.ModuleList(parts))
    whole = fused_linear(parts)
    assert weight_bytes(nn.ModuleList([*parts, whole])) == before


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_a_join_of_joins_keeps_every_real_channel(form: str) -> None:
    import torch

    from advisor.backends.model.fused_linear import fused_linear

    torch.manual_seed(0)
    parts = [linear(form, 64, n, bias=True) for n in (20, 64, 7)]
    x = torch.randn(3, 64).to(torch.bfloat16)
    expected = torch.cat([part(x) for part in parts], dim=-1)
    torch.testing.assert_close(fused_linear([fused_linear(parts[:2]), parts[2]])(x), expected, rtol=2**-7, atol=1e-2)


def test_only_equals_are_joined() -> None:
    from torch import nn

    from advisor.backends.model.fused_linear import fused_linear
    from advisor.backends.model.quantised_linear import Int4Linear

    class Wider(nn.Linear):
        """A linear whose forward we do not know."""

    plain = linear("bf16", 64, 64)
    others: tuple[list[nn.Module], ...] = (
        [],
        [plain],
        [plain, linear("int8", 64, 64)],
        [plain, linear("bf16", 32, 64)],
        [plain, nn.Linear(64, 64)],
        [linear("int4", 64, 64), Int4Linear(nn.Linear(64, 64), 64)],
        [Wider(64, 64), Wider(64, 64)],
        [nn.Identity(), nn.Identity()],
    )
    for linears in others:
        with pytest.raises(ValueError, match="fused_linear takes"):
            fused_linear(linears)

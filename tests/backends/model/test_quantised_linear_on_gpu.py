"""Quantised linears in the layout of a GPU, through Triton's interpreter: other order, same numbers, and moves between devices."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import nn

    from advisor.backends.model.quantised_linear import QuantisedLinear

FORMS = [("int8", None), ("int4", 32), ("int4", 64), ("int4", 128), ("int4", 256)]


def layer(form: str, group: int | None, k: int, n: int, *, bias: bool = False) -> QuantisedLinear:
    import torch
    from torch import nn

    from advisor.backends.model.quantised_linear import Int4Linear, Int8Linear

    plain = nn.Linear(k, n, bias=bias, dtype=torch.bfloat16)
    return Int8Linear(plain) if form == "int8" else Int4Linear(plain, group or 128)


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules lay their weights out as on a GPU."""
    from advisor.backends.model import quantised_linear as quantised

    monkeypatch.setattr(quantised, "layout_of", lambda device: "words")


@pytest.mark.parametrize(("form", "group"), FORMS)
@pytest.mark.parametrize(("k", "n"), [(128, 64), (200, 37), (320, 130)])
def test_a_moved_layer_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch, form: str, group: int | None, k: int, n: int) -> None:
    import torch

    from advisor.backends.model import quantised_linear as quantised

    torch.manual_seed(0)
    module, x = layer(form, group, k, n, bias=True), torch.randn(3, k).to(torch.bfloat16)
    before = module(x)
    buffers = copy.deepcopy(dict(module.named_buffers()))
    monkeypatch.setattr(quantised, "layout_of", lambda device: "words")
    module.to("cpu")
    assert all(buffer.dtype in (torch.int16, torch.bfloat16) for buffer in module.buffers())
    torch.testing.assert_close(module(x), before, rtol=2**-6, atol=2e-2)
    monkeypatch.undo()
    module.to("cpu")
    assert torch.equal(module(x), before), "there and back, the weights are the same"
    for name, buffer in module.named_buffers():
        assert buffer.dtype == buffers[name].dtype


@pytest.mark.usefixtures("as_on_gpu")
@pytest.mark.parametrize(("form", "group"), FORMS)
def test_layers_made_on_a_gpu_agree_with_the_original(form: str, group: int | None) -> None:
    import torch
    from torch import nn

    from advisor.backends.model.quantised_linear import QuantisedLinear, quantise_linears

    torch.manual_seed(1)
    plain, x = nn.Linear(384, 96, bias=False), torch.randn(5, 384)
    swapped = nn.Sequential(copy.deepcopy(plain))
    quantise_linears(swapped, form, group)
    assert isinstance(swapped[0], QuantisedLinear)
    assert swapped[0].channels == 96, "no channel is padding"
    error = float(((swapped(x) - plain(x)).norm() / plain(x).norm()).detach())
    expected = 1 / 254 if form == "int8" else 1 / 15
    assert expected * 0.7 <= error <= expected * 1.15 + 2**-7


@pytest.mark.usefixtures("as_on_gpu")
@pytest.mark.parametrize(("form", "group"), FORMS)
def test_joined_layers_share_memory_and_numbers(form: str, group: int | None) -> None:
    import torch

    from advisor.backends.model.fused_linear import fused_linear

    torch.manual_seed(0)
    parts: list[nn.Module] = [layer(form, group, 256, n) for n in (64, 33, 1)]
    x = torch.randn(2, 256).to(torch.bfloat16)
    expected = torch.cat([part(x) for part in parts], dim=-1)
    separate_bytes = sum(buffer.nbytes for part in parts for buffer in part.buffers())
    whole = fused_linear(parts)
    assert sum(buffer.nbytes for buffer in whole.buffers()) == separate_bytes
    torch.testing.assert_close(whole(x), expected, rtol=2**-6, atol=2e-2)
    torch.testing.assert_close(torch.cat([part(x) for part in parts], dim=-1), expected, rtol=2**-6, atol=2e-2)


@pytest.mark.parametrize(("form", "group"), FORMS)
def test_padding_between_joined_parts_survives_a_move(monkeypatch: pytest.MonkeyPatch, form: str, group: int | None) -> None:
    import torch

    from advisor.backends.model import quantised_linear as quantised
    from advisor.backends.model.fused_linear import fused_linear

    torch.manual_seed(0)
    parts: list[nn.Module] = [layer(form, group, 128, n) for n in (20, 40)]
    x = torch.randn(2, 128).to(torch.bfloat16)
    expected = torch.cat([part(x) for part in parts], dim=-1)
    whole = fused_linear(parts)
    monkeypatch.setattr(quantised, "layout_of", lambda device: "words")
    torch.testing.assert_close(whole.to("cpu")(x), expected, rtol=2**-6, atol=2e-2)


def test_a_layer_moves_to_no_device_at_all() -> None:
    for form, group in FORMS:
        assert all(buffer.is_meta for buffer in layer(form, group, 128, 64).to("meta").buffers())


@pytest.mark.gpu
@pytest.mark.parametrize(("form", "group"), FORMS)
def test_a_layer_moves_to_a_gpu_and_back(form: str, group: int | None) -> None:
    import torch

    torch.manual_seed(0)
    module, x = layer(form, group, 512, 200, bias=True), torch.randn(70, 512).to(torch.bfloat16)
    before = module(x)
    module.cuda()
    torch.testing.assert_close(module(x.cuda()).cpu(), before, rtol=2**-6, atol=2e-2)
    assert torch.equal(module.cpu()(x), before)

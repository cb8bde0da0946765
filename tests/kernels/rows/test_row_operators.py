"""RMS normalisation and the gated product: rounded where transformers rounds, every element written, any stride."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor


def rows(*shape: int, dtype: str = "float16", seed: int = 0) -> Tensor:
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(getattr(torch, dtype))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("width", [64, pytest.param(96, marks=pytest.mark.slow), 2049, pytest.param(5000, marks=pytest.mark.slow)])
def test_add_rmsnorm_rounds_where_transformers_rounds(width: int, dtype: str) -> None:
    import torch

    from advisor.kernels.rows.add_rmsnorm import add_rmsnorm, add_rmsnorm_reference

    x, residual, weight = rows(3, width, dtype=dtype), rows(3, width, dtype=dtype, seed=1), rows(width, dtype=dtype, seed=2)
    normed, total = add_rmsnorm(x, residual, weight, 1e-6)
    expected, expected_total = add_rmsnorm_reference(x, residual, weight, 1e-6)
    assert torch.equal(total, expected_total)
    # sums of squares are added in another order: the last digit may differ where a value lies between two
    torch.testing.assert_close(normed, expected, rtol=torch.finfo(x.dtype).eps * 2, atol=0)
    assert float((normed != expected).float().mean()) < (0.01 if dtype == "float16" else 1.0)


def test_the_reference_is_the_norm_of_transformers() -> None:
    import torch
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    from advisor.kernels.rows.add_rmsnorm import add_rmsnorm_reference

    module = LlamaRMSNorm(64, eps=1e-5).to(torch.bfloat16)
    with torch.no_grad():
        module.weight.copy_(rows(64))
    x = rows(5, 64, dtype="bfloat16")
    normed, total = add_rmsnorm_reference(x, torch.zeros_like(x), module.weight.detach(), 1e-5)
    assert torch.equal(normed, module(x))
    assert torch.equal(total, x)


def test_add_rmsnorm_in_bfloat16_is_right_to_its_rounding() -> None:
    from advisor.kernels.rows.add_rmsnorm import add_rmsnorm, add_rmsnorm_reference

    x, residual, weight = (rows(*shape, dtype="bfloat16", seed=seed) for seed, shape in enumerate(((4, 96), (4, 96), (96,))))
    normed, _ = add_rmsnorm(x, residual, weight)
    exact, _ = add_rmsnorm_reference(x.double(), residual, weight)
    # three roundings, each of up to 2^-7 in the interpreter, which truncates
    assert float((normed - exact).norm() / exact.norm()) < 3 * 2**-7


def test_row_operators_take_any_stride_and_leave_their_inputs_alone() -> None:
    import torch

    from advisor.kernels.rows.add_rmsnorm import add_rmsnorm, add_rmsnorm_reference
    from advisor.kernels.rows.silu_mul import silu_mul, silu_mul_reference

    wide, weight = rows(2, 3, 192), rows(64, seed=1)
    before = wide.clone()
    normed, _ = add_rmsnorm(wide[..., ::3], wide[..., :64], weight)
    expected, _ = add_rmsnorm_reference(wide[..., ::3], wide[..., :64], weight)
    torch.testing.assert_close(normed, expected)
    torch.testing.assert_close(silu_mul(wide[:, 1]), silu_mul_reference(wide[:, 1]))
    assert torch.equal(wide, before)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("width", [pytest.param(1, marks=pytest.mark.slow), 96, pytest.param(1024, marks=pytest.mark.slow), 1025])
def test_silu_mul_writes_every_element(width: int) -> None:
    import torch

    from advisor.kernels.rows.silu_mul import silu_mul, silu_mul_reference

    x = rows(3, 2 * width, dtype="float32")
    torch.testing.assert_close(silu_mul(x), silu_mul_reference(x))


def test_silu_mul_of_extremes_is_finite() -> None:
    import torch

    from advisor.kernels.rows.silu_mul import silu_mul

    x = torch.tensor([[-100.0, 0.0, 100.0, 1.0, 2.0, 3.0]])
    assert torch.equal(silu_mul(x), torch.tensor([[0.0, 0.0, 300.0]]))


def test_launchers_say_what_they_got() -> None:
    from advisor.kernels.rows.add_rmsnorm import add_rmsnorm
    from advisor.kernels.rows.silu_mul import silu_mul

    x, weight = rows(2, 64), rows(64)
    wrong: tuple[tuple[Any, ...], ...] = (
        (x, x, weight[1:]),
        (x.int(), x.int(), weight),
        (x, x.float(), weight),
        (x, x[:1], weight),
        (x, x, weight.float()),
    )
    for arguments in wrong:
        with pytest.raises(ValueError, match=r"got x \(2, 64\)"):
            add_rmsnorm(*arguments)
    with pytest.raises(ValueError, match=r"got \(2, 63\)"):
        silu_mul(x[:, 1:])

"""RMS normalisation and the gated product: rounded where transformers rounds, every element written, any stride."""

import pytest
import torch
from torch import Tensor

from advisor.kernels.rows import add_rmsnorm as norm
from advisor.kernels.rows import silu_mul as gate
from advisor.kernels.rows.quantise_rows import Eight, quantise_rows_reference


def rows(*shape: int, dtype: torch.dtype = torch.float16, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(("width", "plus_one"), [(64, False), (96, False), (2049, True), (5000, False)])
def test_add_rmsnorm_rounds_where_transformers_rounds(width: int, plus_one: bool, dtype: torch.dtype) -> None:
    x, residual, weight = rows(3, width, dtype=dtype), rows(3, width, dtype=dtype, seed=1), rows(width, dtype=dtype, seed=2)
    normed, total = norm.launch_add_rmsnorm(x, residual, weight, 1e-6, plus_one)
    wanted, sums = norm.add_rmsnorm_reference(x, residual, weight, 1e-6, plus_one)
    assert torch.equal(total, sums)
    # sums of squares are added in another order: the last place may differ where a value stands between two
    torch.testing.assert_close(normed, wanted, rtol=torch.finfo(dtype).eps * 2, atol=0)
    assert float((normed != wanted).float().mean()) < (0.01 if dtype == torch.float16 else 1.0)


@pytest.mark.parametrize(("kind", "plus_one"), [("llama", False), ("gemma", True)])
def test_the_reference_is_the_norm_of_transformers(kind: str, plus_one: bool) -> None:
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    module = (GemmaRMSNorm if kind == "gemma" else LlamaRMSNorm)(64, eps=1e-5).to(torch.bfloat16)
    with torch.no_grad():
        module.weight.copy_(rows(64))
    x = rows(5, 64, dtype=torch.bfloat16)
    normed, total = norm.add_rmsnorm(x, None, module.weight.detach(), 1e-5, plus_one)
    assert torch.equal(normed, module(x))
    assert total is x


def test_add_rmsnorm_in_bfloat16_is_right_to_its_rounding() -> None:
    x, residual, weight = (rows(*shape, dtype=torch.bfloat16, seed=seed) for seed, shape in enumerate(((4, 96), (4, 96), (96,))))
    normed, _ = norm.launch_add_rmsnorm(x, residual, weight)
    wanted, _ = norm.add_rmsnorm_reference(x.double(), residual, weight)
    # three roundings, each of up to 2^-7 in the interpreter, which cuts off
    assert float((normed - wanted).norm() / wanted.norm()) < 3 * 2**-7


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("form", ["fp8", "int8"])
@pytest.mark.parametrize(("width", "plus_one"), [(96, False), (700, True), (2049, False)])
def test_quantised_norm_is_the_quantiser_on_the_norm_bit_for_bit(width: int, plus_one: bool, form: Eight) -> None:
    x, residual, weight = rows(5, width), rows(5, width, seed=1), rows(width, seed=2)
    x[3], residual[3] = 0.0, 0.0
    x[4, 0] = torch.inf
    q, scales, total = norm.launch_add_rmsnorm_quantised(x, residual, weight, form, 1e-5, plus_one)
    normed, sums = norm.launch_add_rmsnorm(x, residual, weight, 1e-5, plus_one)
    wanted, steps = quantise_rows_reference(normed, form)
    assert torch.equal(q.view(torch.int8), wanted.view(torch.int8))
    torch.testing.assert_close(scales, steps, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(total, sums)
    on_cpu = norm.add_rmsnorm_quantised(x[:3], residual[:3], weight, form, 1e-5, plus_one)
    # the norm may differ in its last place, the level then by one step
    assert float((on_cpu[0].float() * on_cpu[1][:, None] - q[:3].float() * scales[:3, None]).norm() / normed[:3].float().norm()) < 0.01


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="fp8 or int8; got fp4"):
        norm.add_rmsnorm_quantised(rows(1, 8), None, rows(8), "fp4")  # type: ignore[arg-type]  # on purpose


def test_row_operators_take_any_stride_and_leave_their_inputs_alone() -> None:
    wide, weight = rows(2, 3, 192), rows(64, seed=1)
    before = wide.clone()
    normed, _ = norm.launch_add_rmsnorm(wide[..., ::3], wide[..., :64], weight)
    wanted, _ = norm.add_rmsnorm_reference(wide[..., ::3], wide[..., :64], weight)
    torch.testing.assert_close(normed, wanted)
    torch.testing.assert_close(gate.launch_silu_mul(wide[:, 1]), gate.silu_mul_reference(wide[:, 1]))
    assert torch.equal(wide, before)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("width", [1, 96, 1024, 1025])
def test_silu_mul_writes_every_element(width: int) -> None:
    x = rows(3, 2 * width, dtype=torch.float32)
    torch.testing.assert_close(gate.launch_silu_mul(x), gate.silu_mul_reference(x))


def test_silu_mul_of_extremes_is_finite() -> None:
    x = torch.tensor([[-100.0, 0.0, 100.0, 1.0, 2.0, 3.0]])
    assert torch.equal(gate.launch_silu_mul(x), torch.tensor([[0.0, 0.0, 300.0]]))


def test_launchers_say_what_they_got() -> None:
    x, weight = rows(2, 64), rows(64)
    for arguments in (
        (x, None, weight[1:]),
        (x.int(), None, weight),
        (x, x.float(), weight),
        (x, x[:1], weight),
        (x, None, weight.float()),
    ):
        with pytest.raises(ValueError, match=r"got x \(2, 64\)"):
            norm.add_rmsnorm(*arguments)
    with pytest.raises(ValueError, match=r"got \(2, 63\)"):
        gate.silu_mul(x[:, 1:])

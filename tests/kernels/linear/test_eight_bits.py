"""Activations in eight bits and the fp8 product: torch's own rounding, bit for bit, and operands that never overflow."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advisor.kernels.linear.fp8_linear import fp8_linear, fp8_linear_reference, quantise_fp8
from advisor.kernels.rows.quantise_rows import LARGEST, Eight, quantise_rows, quantise_rows_reference

FORMS = ["fp8", "int8"]


def test_every_fp8_number_and_every_middle_between_two_rounds_as_torch_does() -> None:
    numbers = torch.arange(0, 0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    assert float(numbers[-1]) == 448.0
    middles = (numbers[1:] + numbers[:-1]) / 2
    around = torch.cat([middles, middles.nextafter(torch.tensor(0.0)), middles.nextafter(torch.tensor(500.0)), numbers])
    row = torch.cat([around, -around])[None]
    q, scale = quantise_rows(row, "fp8")
    assert scale.tolist() == [1.0]
    assert torch.equal(q.view(torch.uint8), row.to(torch.float8_e4m3fn).view(torch.uint8))


@pytest.mark.parametrize("form", FORMS)
@given(st.integers(1, 4), st.integers(1, 300), st.sampled_from([1e-30, 1e-3, 1.0, 1e30]), st.integers(0, 2**31))
def test_rows_are_those_of_the_reference_bit_for_bit(form: Eight, m: int, k: int, size: float, seed: int) -> None:
    x = torch.randn(m, k, generator=torch.Generator().manual_seed(seed)) * size
    ours, theirs = quantise_rows(x, form), quantise_rows_reference(x, form)
    assert torch.equal(ours[0].view(torch.uint8), theirs[0].view(torch.uint8))
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("form", FORMS)
def test_error_is_half_a_level_of_the_largest(form: Eight) -> None:
    x = torch.randn(5, 999, generator=torch.Generator().manual_seed(0))
    q, scale = quantise_rows(x, form)
    error = (q.float() * scale[:, None] - x).abs() / scale[:, None]
    # fp8 keeps four significant bits: half of the last is 2^-4 of a number, and 2^-10 below the normal ones
    allowed = torch.tensor(0.5) if form == "int8" else (x.abs() / scale[:, None] * 2**-4).clamp_min(2**-10)
    assert bool((error <= allowed * 1.0001).all())
    assert bool((q.float().abs().amax(1) == LARGEST[form]).all()), "the largest element takes the largest level"


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter's numpy says so
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("form", FORMS)
def test_zeros_stay_zeros_and_what_is_not_finite_shows(form: Eight) -> None:
    x = torch.zeros(4, 50)
    x[1, 3], x[2, 4], x[3, 5] = torch.inf, torch.nan, 1.0
    for q, scale in (quantise_rows(x, form), quantise_rows_reference(x, form)):
        assert not bool(q[:3].float().any())
        assert scale.isnan().tolist() == [False, True, True, False]
        assert q[3].float().nonzero().tolist() == [[5]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_shapes_of_any_rank_and_type(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 40).to(dtype).transpose(0, 1)
    q, scale = quantise_rows(x, "int8")
    assert (q.shape, scale.shape, q.dtype) == (x.shape, x.shape[:-1], torch.int8)
    assert torch.equal(q.reshape(-1, 40), quantise_rows_reference(x.reshape(-1, 40), "int8")[0])


def test_rows_longer_than_a_program_holds_are_quantised_too() -> None:
    x = torch.linspace(-1, 1, 40_000)[None]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(quantise_rows(x, "int8"), quantise_rows_reference(x, "int8"), strict=True))


@pytest.mark.parametrize(("x", "form"), [(torch.zeros(2, 0), "fp8"), (torch.zeros(2, 4).int(), "int8"), (torch.zeros(2, 4), "fp4")])
def test_other_inputs_are_named(x: torch.Tensor, form: Eight) -> None:
    with pytest.raises(ValueError, match=r"got x \(2, \d+\) torch"):
        quantise_rows(x, form)


def test_fp8_products_lose_what_two_roundings_lose() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(8, 512, generator=generator), torch.randn(64, 512, generator=generator)
    q, scale = quantise_fp8(weight)
    exact = x.double() @ weight.double().t()
    error = float((fp8_linear(x, q, scale).double() - exact).norm() / exact.norm())
    # three bits after the leading one: an error of 2^-4/√3 at most for each operand, about 0.026 on average
    assert 0.02 < error < 2**-4


@pytest.mark.parametrize("size", [1e-20, 1e4, 1e20])
def test_outliers_stay_finite(size: float) -> None:
    x = torch.randn(3, 64).to(torch.bfloat16)
    x[1] *= size
    q, scale = quantise_fp8(torch.randn(16, 64))
    out, exact = fp8_linear(x, q, scale), fp8_linear_reference(x.double(), q, scale)
    assert bool(out.isfinite().all())
    assert bool(((out.double() - exact).norm(dim=1) <= 0.01 * exact.norm(dim=1)).all())


def test_fp8_linear_says_what_it_got() -> None:
    x = torch.zeros(2, 32)
    q, scale = quantise_fp8(torch.ones(16, 32))
    wrong = (
        (x[:, 1:], q, scale),
        (x.int(), q, scale),
        (x, q.float(), scale),
        (x, q[:8], scale[:8]),
        (x, q, scale.double()),
        (x, q, scale[:-1]),
        (x, q, scale.to("meta")),
    )
    for arguments in wrong:
        with pytest.raises(ValueError, match=r"got x \(\d+, \d+\) torch"):
            fp8_linear(*arguments)

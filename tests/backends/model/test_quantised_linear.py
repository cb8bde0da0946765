"""Quantised linears in a model: close to the original, really smaller, odd shapes, nothing else touched."""

from __future__ import annotations

import copy
import gc
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.formats import FORMATS, weight_format

if TYPE_CHECKING:
    from torch import nn

    from advisor.backends.model.quantised_linear import Int8Linear, QuantisedLinear

FORMS = [("int8", None), ("int4", 32), ("int4", 64), ("int4", 128), ("int4", 256)]


def quantised(linear: nn.Linear, form: str, group: int | None) -> QuantisedLinear:
    from advisor.backends.model.quantised_linear import Int4Linear, Int8Linear

    return Int8Linear(linear) if form == "int8" else Int4Linear(linear, group or 128)


def llama(*, tied: bool = False, hidden: int = 128, layers: int = 2) -> nn.Module:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    model: nn.Module = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    return model


@given(st.integers(0, 70), st.integers(1, 90), st.integers(1, 100), st.booleans(), st.sampled_from(FORMS), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_any_shape_works(m: int, n: int, k: int, bias: bool, form: tuple[str, int | None], seed: int) -> None:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    linear = nn.Linear(k, n, bias=bias)
    x = torch.randn(m, k)
    swapped = quantised(linear, *form)
    out = swapped(x)
    exact = linear(x).detach()
    assert out.shape == exact.shape
    assert out.is_contiguous()
    # the sum of k products, each off by half a step of its weight (a step is at most 2·max/15, the channel's or group's range)
    step = 1 / 254 if form[0] == "int8" else 1 / 15
    allowed = x.abs().sum(1, keepdim=True) * linear.weight.abs().max() * (step + 2**-6) + exact.abs() * 2**-6 + 1e-6
    assert bool(((out - exact).abs() <= allowed).all())


@pytest.mark.parametrize(("form", "group"), FORMS[:2])
@pytest.mark.parametrize("rows", [1, 60])
def test_fp32_activations_are_rounded_to_bf16_as_the_technique_says(rows: int, form: str, group: int | None) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    swapped, x = quantised(nn.Linear(128, 64), form, group), torch.randn(rows, 128)
    assert not torch.equal(x, x.bfloat16().float())
    assert torch.equal(swapped(x), swapped(x.bfloat16().float()))


@pytest.mark.parametrize(("form", "group"), FORMS)
def test_error_is_that_of_the_rounding_alone(form: str, group: int | None) -> None:
    import torch
    from torch import nn

    torch.manual_seed(1)
    linear, x = nn.Linear(768, 256, bias=False), torch.randn(32, 768)
    error = float(((quantised(linear, form, group)(x) - linear(x)).norm() / linear(x).norm()).detach())
    # uniform weights over ±a: a step of 2a/254 or 2a/15 has deviation step/√12, the weights a/√3
    expected = 1 / 254 if form == "int8" else 1 / 15
    assert expected * 0.8 <= error <= expected * 1.15 + 2**-8, f"{error:.4f}, rounding alone {expected:.4f}"


def test_swapping_keeps_head_embedding_norms_and_counts_the_rest() -> None:
    from torch import nn

    from advisor.backends.model.quantised_linear import Int8Linear, quantise_linears

    model = llama()
    assert quantise_linears(model, "int8", None) == 2 * 7
    left = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert left == ["lm_head"]
    assert sum(isinstance(module, Int8Linear) for module in model.modules()) == 14


@pytest.mark.parametrize(("form", "group"), [("int8", None), ("int4", 32)])
def test_an_untied_head_is_quantised_where_the_option_says_so(form: str, group: int | None) -> None:
    import torch

    from advisor.backends.model.quantised_linear import QuantisedLinear, quantise_linears, weight_bytes

    model: Any = llama().requires_grad_(False)
    tokens = torch.randint(0, 512, (2, 9))
    exact = model(tokens).logits
    before = weight_bytes(model)
    assert quantise_linears(model, form, group, head=True) == 2 * 7 + 1
    assert isinstance(model.get_submodule("lm_head"), QuantisedLinear)
    after = weight_bytes(model)
    assert after["embedding"] == before["embedding"]
    assert after["head"] == pytest.approx(512 * 128 * FORMATS[form].bytes_per_element(group, 128))
    text = model.generate(tokens, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert text.shape == (2, 13)
    assert float((model(tokens).logits - exact).norm() / exact.norm()) < (0.05 if form == "int8" else 0.4)


def test_a_head_that_is_the_embedding_stays() -> None:
    from torch import nn

    from advisor.backends.model.quantised_linear import quantise_linears

    model = llama(tied=True)
    assert quantise_linears(model, "int8", None, head=True) == 2 * 7
    assert type(model.get_submodule("lm_head")) is nn.Linear


def test_skipped_names_are_whole_or_last_parts() -> None:
    from torch import nn

    from advisor.backends.model.quantised_linear import Int4Linear, quantise_linears

    model = llama()
    assert quantise_linears(model, "int4", 32, skipped_names=("down_proj", "model.layers.0.self_attn.q_proj")) == 14 - 2 - 1
    assert type(model.get_submodule("model.layers.1.mlp.down_proj")) is nn.Linear
    assert type(model.get_submodule("model.layers.0.self_attn.q_proj")) is nn.Linear
    assert type(model.get_submodule("model.layers.1.self_attn.q_proj")) is Int4Linear
    assert type(model.get_submodule("lm_head")) is nn.Linear, "the head that the model names is kept in any case"


def test_a_linear_tied_to_an_embedding_stays_tied() -> None:
    from torch import nn

    from advisor.backends.model.quantised_linear import quantise_linears

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.inner, self.out = nn.Embedding(64, 32), nn.Linear(32, 32), nn.Linear(32, 64, bias=False)
            self.out.weight = self.table.weight

    model = Tied()
    assert quantise_linears(model, "int8", None) == 1
    assert model.out.weight is model.table.weight


def test_a_linear_under_two_names_is_swapped_once() -> None:
    from torch import nn

    from advisor.backends.model.quantised_linear import quantise_linears

    shared = nn.Linear(32, 32)
    model = nn.ModuleDict({"a": shared, "b": shared, "c": nn.Linear(32, 32)})
    assert quantise_linears(model, "int8", None) == 2
    assert model["a"] is model["b"]
    assert model["c"] is not model["a"]


def test_old_weights_are_freed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import nn

    from advisor.backends.model.quantised_linear import Int8Linear, quantise_linears

    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))
    old = [weakref.ref(module.weight) for module in model]
    alive: list[int] = []

    def recorded(linear: nn.Linear) -> Int8Linear:
        alive.append(sum(reference() is not None for reference in old))
        return Int8Linear(linear)

    monkeypatch.setattr("advisor.backends.model.quantised_linear.Int8Linear", recorded)
    quantise_linears(model, "int8", None)
    gc.collect()
    assert alive == [4, 3, 2, 1]
    assert not any(reference() is not None for reference in old)


@pytest.mark.parametrize(("form", "group"), [("int8", None), ("int4", 32), ("int4", 128)])
def test_memory_is_what_the_format_table_says(form: str, group: int | None) -> None:
    from torch import nn

    from advisor.backends.model.quantised_linear import QuantisedLinear, quantise_linears, weight_bytes

    model = llama(hidden=256)
    elements = sum(module.weight.numel() for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head")
    before = weight_bytes(model)
    quantise_linears(model, form, group)
    after = weight_bytes(model)
    assert before["linear"] == 2 * elements
    rows = elements / sum(module.out_features for module in model.modules() if isinstance(module, QuantisedLinear))
    expected = elements * FORMATS[form].bytes_per_element(group, int(rows))
    assert after["linear"] + after["scales"] == pytest.approx(expected, rel=0.02)
    assert {kind: after[kind] for kind in ("embedding", "head", "other")} == {kind: before[kind] for kind in ("embedding", "head", "other")}
    assert after["linear"] == elements // (1 if form == "int8" else 2)


def test_tied_embeddings_count_once() -> None:
    from advisor.backends.model.quantised_linear import weight_bytes

    sizes = weight_bytes(llama(tied=True))
    assert sizes["embedding"] == 512 * 128 * 2
    assert sizes["head"] == 0


def test_bytes_of_a_view_are_those_of_the_memory_behind_it() -> None:
    import torch
    from torch import nn

    from advisor.backends.model.quantised_linear import weight_bytes

    layer = nn.Linear(8, 8, bias=False)
    layer.weight = nn.Parameter(torch.zeros(64, 8)[:8])
    assert weight_bytes(layer)["linear"] == 64 * 8 * 4


@pytest.mark.parametrize(("form", "group", "most"), [("int8", None, 0.02), ("int4", 32, 0.4)])
def test_a_quantised_model_still_generates(tiny_model_folder: Path, form: str, group: int | None, most: float) -> None:
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    from advisor.backends.model.quantised_linear import quantise_linears

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.bfloat16).eval()
    swapped = copy.deepcopy(model)
    quantise_linears(swapped, form, group)
    tokens = torch.randint(2, 320, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact, close = model(tokens).logits.double(), swapped(tokens).logits.double()
        text = swapped.generate(tokens, max_new_tokens=8, min_new_tokens=8, do_sample=False)
    assert text.shape == (2, 48)
    divergence = nn.functional.kl_div(close.log_softmax(-1), exact.log_softmax(-1), log_target=True, reduction="sum") / 80
    assert 0 < divergence < most, f"KL {float(divergence):.4f} nats per token"


@pytest.mark.parametrize(
    ("form", "group", "code"),
    [("int3", None, "unknown-format"), ("int4", 48, "bad-group-size"), ("int4", 0, "bad-group-size"), ("int4", -32, "bad-group-size")],
)
def test_bad_requests_say_what_is_allowed(form: str, group: int | None, code: str) -> None:
    from torch import nn

    from advisor.backends.model.quantised_linear import quantise_linears

    model = llama()
    with pytest.raises(AdvisorError) as caught:
        quantise_linears(model, form, group)
    assert (caught.value.code, caught.value.exit_code) == (code, ExitCode.USAGE)
    assert caught.value.help
    assert type(model.get_submodule("model.layers.0.mlp.up_proj")) is nn.Linear


def test_a_model_without_linears_is_an_error() -> None:
    from torch import nn

    from advisor.backends.model.quantised_linear import quantise_linears

    with pytest.raises(AdvisorError, match="Embedding has no linear layer to store in int8"):
        quantise_linears(nn.Embedding(4, 4), "int8", None)


def test_wrong_width_is_named() -> None:
    import torch
    from torch import nn

    from advisor.backends.model.quantised_linear import Int8Linear

    with pytest.raises(ValueError, match=r"Int8Linear takes 20 input features; got x of shape \(2, 32\)"):
        Int8Linear(nn.Linear(20, 4))(torch.zeros(2, 32))


def test_modules_print_their_shape() -> None:
    from torch import nn

    from advisor.backends.model.quantised_linear import Int4Linear

    assert repr(Int4Linear(nn.Linear(20, 4, bias=False), 32)) == "Int4Linear(in_features=20, out_features=4, bias=False, group_size=32)"


def test_format_table_states_bits_of_both_formats() -> None:
    assert FORMATS["int8"].bytes_per_element(row_elements=1024) * 8 == pytest.approx(8 + 16 / 1024)
    assert weight_format("int4-g32").bytes_per_element() * 8 == pytest.approx(4 + 32 / 32)


@pytest.mark.parametrize(("form", "group"), [("int8", None), ("int4", 32), ("int4", 128)])
def test_the_bare_operator_is_the_module_bit_for_bit(form: str, group: int | None) -> None:
    import torch
    from torch import nn

    from advisor.backends.model.quantised_linear import QuantisedLinear, quantise_linears

    holder = nn.Sequential(nn.Linear(256, 192, bias=False, dtype=torch.bfloat16))
    quantise_linears(holder, form, group)
    module = holder[0]
    assert isinstance(module, QuantisedLinear)
    product = module.raw_product()
    assert product is not None
    most, run = product
    for rows in (1, 3, most):
        x = torch.randn(rows, 256).to(torch.bfloat16)
        assert torch.equal(run(x), module(x))


@pytest.mark.parametrize(("inputs", "outputs", "bias"), [(256, 192, True), (256, 190, False)])
def test_there_is_no_bare_operator_where_work_remains_around_it(inputs: int, outputs: int, bias: bool) -> None:
    import torch
    from torch import nn

    from advisor.backends.model.quantised_linear import QuantisedLinear, quantise_linears

    holder = nn.Sequential(nn.Linear(inputs, outputs, bias=bias, dtype=torch.bfloat16))
    quantise_linears(holder, "int4", 32)
    module = holder[0]
    assert isinstance(module, QuantisedLinear)
    assert module.raw_product() is None

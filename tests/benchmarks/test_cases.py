"""What cases count and compute, where it can be told without a device."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from advisor.backends.techniques import by_name
from benchmarks.harness.record import Record, Timing, Work
from benchmarks.harness.store import read_results
from tests.paths import ROOT

if TYPE_CHECKING:
    from benchmarks.harness.case import Bench

SHAPES = ["LLAMA_8B", "MISTRAL_7B", "QWEN3_8B", "QWEN3_30B_A3B"]
SMALL = {
    "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "head_dim": 16,
    "vocab_size": 256, "moe_intermediate_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_models_of_real_kinds_are_made_in_bf16_with_finite_answers(name: str) -> None:
    import torch

    from benchmarks.cases import models
    from benchmarks.cases.models import Shape, make_model

    shape = getattr(models, name)
    model = make_model(Shape(shape.name, shape.snapshot, SMALL), torch.device("cpu"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        assert bool(model(torch.tensor([[1, 2, 3]])).logits.isfinite().all())


@pytest.mark.parametrize("name", SHAPES)
def test_the_floor_counts_the_published_parameters(name: str) -> None:
    from benchmarks.cases import models

    shape = getattr(models, name)
    spec = shape.spec()
    billions = {"llama-8b": 8.03, "mistral-7b": 7.24, "qwen3-8b": 8.19, "qwen3-30b-a3b": 30.5}[shape.name]
    assert sum(layer.parameters for layer in spec.layers) / 1e9 < billions
    assert spec.parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_a_step_reads_every_matrix_once_and_of_an_untied_embedding_nothing() -> None:
    import torch

    from advisor.backends.model.quantised_linear import quantise_linears
    from benchmarks.cases.models import TINY, make_model, step_bytes

    model = make_model(TINY, torch.device("cpu"))
    parameters = {name: parameter.nbytes for name, parameter in model.named_parameters()}
    moved = step_bytes(model, TINY.spec(), 1)
    tables = sum(buffer.nbytes for buffer in model.buffers())
    assert moved.weights == sum(parameters.values()) - parameters["model.embed_tokens.weight"] + tables
    assert moved.total(3, 100) - moved.weights == 3 * 100 * 2 * 2 * 2 * 32 * 2, "layers, keys and values, heads, width, bytes"
    before = moved.weights
    quantise_linears(model, "int8", None)
    assert step_bytes(model, TINY.spec(), 1).weights < 0.7 * before


def test_few_tokens_need_few_experts() -> None:
    from benchmarks.cases.models import LLAMA_8B, QWEN3_30B_A3B, experts_share

    spec = QWEN3_30B_A3B.spec()
    assert experts_share(spec, 1) == pytest.approx(8 / 128)
    assert 0.8 < experts_share(spec, 32) < experts_share(spec, 512) <= 1
    assert experts_share(LLAMA_8B.spec(), 1) == 1


def test_a_window_bounds_what_is_counted_and_quantised_caches_count_their_scales() -> None:
    from benchmarks.cases.decode_attention import work_of
    from benchmarks.cases.shapes import GPT_OSS, Decode
    from benchmarks.cases.shapes import LLAMA_8B as HEADS_8B

    rows = 2 * 2 * 32 * 64 * 64
    assert work_of(Decode(GPT_OSS, 32, 4096), "bf16").bytes == 2 * 2 * 32 * 8 * 128 * 64 + rows
    small = work_of(Decode(HEADS_8B, 2, 1000), "int4")
    assert small.bytes == 2 * 2 * 8 * 1000 * 128 // 2 + 2 * 2 * 2 * 8 * 1000 + 2 * 2 * 2 * 32 * 128
    assert work_of(Decode(HEADS_8B, 2, 1000), "flex") == work_of(Decode(HEADS_8B, 2, 1000), "bf16")


@pytest.mark.parametrize("kv_format", ["bf16", "int8", "fp8", "int4"])
def test_the_caches_that_are_timed_hold_numbers_and_give_numbers(kv_format: str) -> None:
    import torch

    from benchmarks.cases.decode_attention import make_inputs, our_call
    from benchmarks.cases.shapes import TINY as TINY_HEADS
    from benchmarks.cases.shapes import Decode

    shape = Decode(TINY_HEADS, 1, 17)
    given = make_inputs(shape, kv_format, torch.device("cpu"), seed=0)
    assert bool(given.keys.float().isfinite().all())
    out = our_call(shape, kv_format, given, None)()
    assert isinstance(out, torch.Tensor)
    assert bool(out.isfinite().all())
    assert float(out.abs().max()) > 0


@pytest.mark.slow
def test_a_lossy_technique_is_scored_against_the_unmodified_model(bench: Bench) -> None:
    from benchmarks.cases.quality import score

    measured = score("weights-int4", {"group_size": 128}, 1024, bench)
    assert 0.5 < measured.values["top1_agreement"] < 1
    assert measured.values["kl_divergence_low"] <= measured.values["kl_divergence"] <= measured.values["kl_divergence_high"]
    assert measured.settings["group_size"] == 128


def test_time_in_which_nothing_runs_is_the_gap() -> None:
    from benchmarks.cases.idle import idle_share, union

    assert union([(3, 4), (0, 1), (0.5, 2), (4, 5)]) == [(0, 2), (3, 5)]
    steady = [(float(at), at + 0.9) for at in range(100)]
    assert idle_share(steady) == pytest.approx(0.1, abs=0.01)
    started_late = [(0.0, 1.0), (50.0, 75.0), (75.0, 100.0)]
    assert idle_share(started_late) == 0
    assert idle_share([(0.0, 1.0)]) is None


def test_a_step_is_compared_with_reading_its_bytes() -> None:
    from benchmarks.cases.one_sequence import against_floor

    ours = Timing(name="advisor", how="loop", seconds=(0.004, 0.005, 0.006))
    read = Record(
        case="read",
        status="done",
        environment="e",
        work={"read": Work(bytes=1000)},
        timings=(Timing(name="read", how="graph", seconds=(1.0,)),),
    )
    figures = against_floor(ours, 4.0, read)
    assert figures == pytest.approx({"tokens_per_s": 200, "bytes_per_step": 4.0, "floor_s": 0.004, "step_by_floor": 1.25})
    assert "floor_s" not in against_floor(ours, 4.0, None)


def test_the_quality_table_names_the_window_of_each_row_and_none_holds_a_whole_stretch() -> None:
    from benchmarks.cases.quality import LOSSY, WINDOW, name_of

    files = sorted((ROOT / "benchmarks" / "results").glob("*/quality.json"))
    measured = {record.case for file in files for record in read_results(file).records}
    for name, options in LOSSY:
        assert name_of(name, options) in measured
        if "window" in {field.name for field in fields(by_name(name))}:
            window = options["window"]
            assert isinstance(window, int), f"{name} is scored with a window that its row does not name"
            assert window <= WINDOW // 4


@pytest.mark.parametrize(
    ("flops_per_s", "size"),
    [(1e15, 2048), (1e11, 2048), (2e9, 512), (1e9, 256), (1e3, 256)],
    ids=["a GPU", "bf16 instructions", "none", "slower", "an interpreter"],
)
def test_a_product_is_as_large_as_its_time_allows(flops_per_s: float, size: int) -> None:
    from benchmarks.cases.ceilings import affordable_size

    tried: list[int] = []

    def seconds_of(rows: int) -> float:
        tried.append(rows)
        return 2 * rows**3 / flops_per_s

    assert affordable_size(2048, seconds_of, limit_s=0.25) == size
    assert max(tried) <= size
    assert affordable_size(64, seconds_of, limit_s=0.25) == 64


def test_a_product_smaller_than_planned_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.cases import ceilings

    monkeypatch.setattr(ceilings, "PRODUCT_S", 0.0)
    measured = ceilings.product_ceiling(bench, 512)
    assert measured.settings == {"size": 256}
    assert measured.work["product-bf16"].flops == 2 * 256**3
    assert measured.notes == ("a product of 512 rows takes too long here: measured with 256",)
    assert not ceilings.product_ceiling(bench, 64).notes

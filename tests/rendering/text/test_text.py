"""Texts are golden files made from canned values: no number in them was measured or predicted."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from advisor.backends.deployment import Deployment, baseline
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.backends.techniques.weights_int4 import WeightsInt4
from advisor.feedback.compare import compare
from advisor.planning.advice import LIKELY, Advice, Candidate, Reason, Relaxation, Status, TechniqueState, Violation
from advisor.profiles.architectures.layers import LatentAttention, Layer, Matrix, RecurrentMixer, SelfAttention
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.evidence import Evidence
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.quality import HeadError, QualityReport, TechniqueQuality
from advisor.profiles.request import Limits, Prefer, Request, Workload
from advisor.profiles.run import Run, Rung, RungStatus
from advisor.quantities.formatting import number
from advisor.rendering.text.advice import advice_text
from advisor.rendering.text.charts import gauge
from advisor.rendering.text.comparison import comparison_text
from advisor.rendering.text.hardware import hardware_table_text, hardware_text
from advisor.rendering.text.linear import linear_text
from advisor.rendering.text.metrics import metrics_text
from advisor.rendering.text.models import model_text, models_text
from advisor.rendering.text.plans import differing_slots
from advisor.rendering.text.quality import quality_text
from advisor.rendering.text.run import run_text
from advisor.rendering.text.style import Look
from tests.paths import ROOT

HERE = ROOT / "tests"
RUN = Run.model_validate_json((HERE / "canned" / "run.json").read_text(encoding="utf-8"))


class _Canned(Technique):
    sources: ClassVar[tuple[str, ...]] = ()
    cases: ClassVar[tuple[Case, ...]] = ()

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        return None

    def sketch(self, deployment: Deployment, request: Request) -> Deployment:
        return deployment

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        return LOSSLESS

    def apply(self, session: LoadedModel) -> LoadedModel:
        return session


@dataclass(frozen=True)
class _Int8(_Canned):
    name = "weights-int8"
    slot = Slot.WEIGHTS


@dataclass(frozen=True)
class _Int4(_Canned):
    name = "weights-int4"
    slot = Slot.WEIGHTS
    group_size: int = 128


@dataclass(frozen=True)
class _Paged(_Canned):
    name = "kv-paged"
    slot = Slot.KV_LAYOUT


@dataclass(frozen=True)
class _Draft(_Canned):
    name = "decode-draft"
    slot = Slot.DECODING


ATTENTION = SelfAttention(q_heads=32, kv_heads=8, head_dim=128, value_dim=128)
LATENT = LatentAttention(heads=16, kv_rank=512, rope_dim=64, nope_dim=128, value_dim=128, index_topk=2048, index_heads=4, index_dim=128)
MIXER = RecurrentMixer(kind="mamba2", state_elements=65536, state_bytes_per_element=4, conv_elements=4096, flops_per_token=1)
LAYER = Layer(mixer=ATTENTION, matrices=(Matrix(name="qkv", n=6144, k=4096, kind="attention"),), vector_parameters=8192)
MODEL = ModelSpec(
    id="canned/llama-8b",
    family="llama",
    architecture="LlamaForCausalLM",
    hidden_size=4096,
    vocab_size=128256,
    max_context_tokens=131072,
    layers=(LAYER,) * 32,
    embedding=Matrix(name="embedding", n=128256, k=4096, kind="embedding"),
    head=None,
    vector_parameters=4096,
    weight_format="bf16",
    weight_format_reason="canned",
    config_digest="0" * 16,
)
HYBRID = replace(
    MODEL, id="canned/hybrid", layers=(LAYER, replace(LAYER, mixer=LATENT), replace(LAYER, mixer=MIXER), replace(LAYER, mixer=None))
)
DEVICE = Hardware(
    id="canned-24g",
    name="Canned 24 GiB",
    vendor="Nobody",
    arch="canned",
    kind="gpu",
    memory_bytes=24 * 2**30,
    memory_bandwidth_bytes_per_s=1e12,
    peak_flops={"bf16": 1.65e14, "int8": 3.3e14},
    tdp_w=450,
    l2_bytes=72 * 2**20,
    sources=dict.fromkeys(("memory_bytes", "memory_bandwidth_bytes_per_s", "peak_flops.bf16", "peak_flops.int8", "l2_bytes"), "canned")
    | {"tdp_w": "canned elsewhere"},
    notes="Nothing here exists.",
)


OTHER = DEVICE.model_copy(update={"id": "other", "peak_flops": {"fp8": 6.6e14}})


def value(number: float, share: float, basis: Basis = Basis.CATALOGUE) -> Value:
    return Value(value=number, low=number * (1 - share), high=number * (1 + share), basis=basis)


def metrics(ttft: float, tpot: float, throughput: float, weights: float, cache: float, loss: float) -> Metrics:
    return Metrics(
        ttft_ms_p95=value(ttft, 0.2),
        tpot_ms_p95=value(tpot, 0.12),
        throughput_tok_s=value(throughput, 0.1),
        peak_memory_gib=value(weights + cache + 1.5, 0.04),
        weights_gib=Value.exact(weights),
        kv_cache_gib=Value.exact(cache),
        max_concurrency=Value.exact(21.0),
        quality_loss_pct=Value(value=loss, low=loss / 3, high=loss * 2, basis=Basis.LITERATURE),
    )


def candidate(
    id: str, techniques: tuple[Technique, ...], predicted: Metrics, status: Status, misses: tuple[Violation, ...] = ()
) -> Candidate:
    return Candidate(
        id,
        techniques,
        baseline(MODEL, max_sequences=16),
        predicted,
        status,
        misses,
        (("ttft_ms_p95", 0.934), ("memory_gib_per_device", 0.996)),
    )


BEST = candidate("plan-0000aaaa", (_Int4(), _Paged(), _Draft()), metrics(302, 14.1, 930, 4.6, 8.6, 0.42), Status.MEETS)
RISKY = candidate("plan-0000bbbb", (_Int4(group_size=32), _Paged()), metrics(297, 18.7, 1050, 4.9, 8.6, 0.3), Status.AT_RISK)
PLAIN = candidate("plan-0000cccc", (_Int8(), _Paged()), metrics(288, 23.4, 1190, 8.2, 8.6, 0.1), Status.INFEASIBLE)
LIMITS = Limits(ttft_ms_p95=500, tpot_ms_p95=20, throughput_tok_s=800, memory_gib_per_device=20, quality_loss_pct=1)
FITS = Advice(
    request=Request(workload=Workload(prompt_tokens=4096, output_tokens=512, concurrency=16), limits=LIMITS, prefer=Prefer.LATENCY),
    model=MODEL,
    hardware=DEVICE,
    profile=None,
    chosen=BEST,
    ranked=(BEST, RISKY, PLAIN),
    reasons=(
        Reason(
            "weights-int4",
            TechniqueState.CHOSEN,
            "decode is bound by memory bandwidth here",
            effect=(("tpot_ms_p95", -15.1), ("weights_gib", -10.2), ("quality_loss_pct", 0.42)),
            sources=("arxiv:2306.00978", "canned"),
        ),
        Reason("kv-paged", TechniqueState.CHOSEN, "memory 22.1 -> 14.7 GiB.", effect=(("peak_memory_gib", -7.4),)),
        Reason(
            "kv-int8",
            TechniqueState.REJECTED,
            "quality loss 1.3 % is over the limit 1 %",
            would_need=(("quality_loss_pct", 1.3041),),
            sources=("x",),
        ),
        Reason("batching-continuous", TechniqueState.REJECTED, "gains nothing at one request", would_need=(("concurrency", 6.0),)),
        Reason("tensor-parallel", TechniqueState.NOT_APPLICABLE, "one device"),
    ),
    relaxations=(),
    binding=None,
    considered=96,
    feasible=48,
    budget_gib=21.6,
)
MISS = Violation("tpot_ms_p95", 10.0, value(14.1, 0.12))
NEAREST = replace(BEST, status=Status.INFEASIBLE, violations=(MISS,))
NOTHING_FITS = replace(
    FITS,
    request=FITS.request.model_copy(update={"limits": LIMITS.model_copy(update={"tpot_ms_p95": 10.0})}),
    chosen=NEAREST,
    ranked=(NEAREST, PLAIN),
    relaxations=(Relaxation("tpot_ms_p95", 10.0, 14.101, NEAREST, 15.23), Relaxation("throughput_tok_s", 800.0, 712.9, PLAIN, 660.4)),
    binding=MISS,
    feasible=0,
    profile="canned-lab",
)

QUALITY = QualityReport(
    model="canned/llama-8b",
    text="canned.txt",
    tokens=4096,
    stretch_tokens=512,
    perplexity=11.07,
    techniques=(
        TechniqueQuality(
            technique="kv-int8",
            metrics=Metrics(quality_loss_pct=Value.exact(0.02), kl_divergence=Value.exact(0.00031), top1_agreement=Value.exact(0.988)),
            heads=tuple(HeadError(layer=index // 2, head=index % 2, error=0.008 - 0.001 * index) for index in range(4)),
        ),
        TechniqueQuality(
            technique="kv-window",
            options={"window": 128},
            metrics=Metrics(quality_loss_pct=Value.exact(4.79)),
            heads=tuple(HeadError(layer=index // 2, head=index % 2, error=0.1 * index) for index in range(4)),
        ),
    ),
)

TEXTS = {
    "advice": lambda **look: advice_text(FITS, **look),
    "advice-nothing-fits": lambda **look: advice_text(NOTHING_FITS, **look),
    "comparison": lambda **look: comparison_text(compare(RUN), **look),
    "hardware": lambda **look: hardware_text(DEVICE, **look),
    "hardware-table": lambda **look: hardware_table_text([DEVICE, OTHER], **look),
    "metrics": lambda **look: metrics_text(BEST.metrics, LIMITS, **look),
    "model": lambda **look: model_text(HYBRID, **look),
    "models": lambda **look: models_text([MODEL, HYBRID], **look),
    "quality": lambda **look: quality_text(QUALITY, heads=3, **look),
    "run": lambda **look: run_text(RUN, **look),
}


LAID_OUT_BY_WIDTH = ("advice", "advice-nothing-fits", "comparison", "metrics", "run")
"""Views with more columns or a drawing where there is room; the others only wrap their lines."""


@pytest.mark.parametrize(
    ("name", "width", "ascii"),
    [
        *((name, 80, False) for name in TEXTS),
        *((name, 120, False) for name in LAID_OUT_BY_WIDTH),
        ("advice", 120, True),
        ("metrics", 120, True),
    ],
)
def test_text_is_the_golden_one(name: str, width: int, ascii: bool) -> None:
    golden = HERE / "golden" / f"{name}-{width}{'-ascii' if ascii else ''}.txt"
    text = TEXTS[name](width=width, ascii=ascii)
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - set(LAID_OUT_BY_WIDTH)))
def test_a_view_that_only_wraps_says_the_same_at_every_width(name: str) -> None:
    assert TEXTS[name](width=120).split() == TEXTS[name](width=80).split()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", TEXTS)
def test_ascii_only_replaces_characters(name: str, width: int) -> None:
    plain = TEXTS[name](width=width).splitlines()
    assert TEXTS[name](width=width, ascii=True) == Look(width, ascii=True).finish(plain)


@pytest.mark.parametrize("name", TEXTS)
def test_text_fits_its_width_and_ascii_is_ascii(name: str) -> None:
    for width in (40, 60, 80, 100, 120, 170, 200):
        for line in TEXTS[name](width=width, ascii=True).splitlines():
            assert len(line) <= width, f"{name} at {width}: {line!r}"
            assert line.isascii()


@pytest.mark.parametrize("name", TEXTS)
def test_colour_is_off_by_default_and_changes_nothing_else(name: str) -> None:
    plain, coloured = TEXTS[name](width=100), TEXTS[name](width=100, colour=True)
    assert "\x1b" not in plain
    stripped = "\n".join(Look(100)._line(line) for line in coloured.splitlines())
    assert stripped == plain.rstrip("\n")
    if name in ("advice", "comparison", "run"):
        assert "\x1b[" in coloured


def test_advice_says_ok_risk_and_fail() -> None:
    tight = LIMITS.model_copy(update={"tpot_ms_p95": 15.0, "throughput_tok_s": 1000.0})
    lines = metrics_text(BEST.metrics, tight, width=100).splitlines()
    word = {line[:10].strip(): line for line in lines}
    assert "ok" in word["TTFT p95"]
    assert "risk" in word["TPOT p95"]
    assert "FAIL" in word["Throughput"]


def test_a_chance_just_below_the_word_for_it_does_not_read_as_if_it_reached_it() -> None:
    close = replace(BEST, status=Status.AT_RISK, probabilities=(("tpot_ms_p95", LIKELY - 1e-4),))
    text = advice_text(replace(FITS, chosen=close, request=FITS.request.model_copy(update={"limits": Limits(tpot_ms_p95=15.0)})), width=120)
    assert "meets all limits with 89 % probability, at RISK: the range of TPOT p95 crosses its limit" in text


def test_a_range_that_crosses_its_limit_is_no_risk_where_the_chance_is_good() -> None:
    likely = replace(BEST, probabilities=(("tpot_ms_p95", 0.93),))
    text = advice_text(
        replace(FITS, chosen=likely, request=FITS.request.model_copy(update={"limits": Limits(tpot_ms_p95=15.0)})), width=120
    )
    assert "meets all limits with 93 % probability; the range of TPOT p95 crosses its limit" in text


def test_nothing_fits_names_the_limit_that_binds_and_what_would_let_a_plan_in() -> None:
    text = advice_text(NOTHING_FITS, width=120)
    assert "Binding limit  TPOT p95 14.1 ms [12.4, 15.8], limit 10 ms: 1.41 times too high" in text
    assert "TPOT p95 limit from 10 ms to 14.2 ms, or 15.3 ms to meet it with 90 % probability: weights-int4" in text, (
        "rounded so that the plan is admitted"
    )
    assert "Throughput limit from 800 tok/s to 712 tok/s, or 660 tok/s to meet it with 90 % probability: weights-int8 + kv-paged" in text


def test_plans_differ_in_what_the_table_shows() -> None:
    text = advice_text(FITS, width=120)
    assert "int4 128" in text
    assert "int4 32" in text
    assert "In all of them: kv-paged." in text


def test_nothing_is_said_to_be_the_baseline_s_when_the_baseline_failed() -> None:
    failed = RUN.rungs[0].model_copy(update={"status": RungStatus.FAILED, "measured": None, "error": "killed"})
    text = run_text(RUN.model_copy(update={"rungs": (failed, *RUN.rungs[1:])}))
    assert "in the baseline" in run_text(RUN)
    assert "in the baseline" not in text
    assert "baseline: failed: killed" in text


def test_data_cannot_reach_the_terminal_as_control_codes() -> None:
    nasty = RUN.model_copy(update={"title": "a\x1b]0;owned\x07b\x1b[31mred\nline\x9b2J", "model": "\x1b[2Jm\u202eodel"})
    for text in (run_text(nasty), run_text(nasty, colour=True), comparison_text(compare(nasty), colour=True)):
        assert not set(text) & {"\x07", "\x9b", "\u202e"}
        assert "\x1b]" not in text
        assert "\x1b[2J" not in text


FLOATS = st.one_of(
    st.floats(min_value=0, max_value=1e300), st.sampled_from([0.0, 1e-300, 5e-324, 1e300, 1.0, -1e300, -1.0]), st.floats(-1e6, 1e6)
)


@st.composite
def values(draw: st.DrawFn) -> Value:
    low, middle, high = sorted(draw(st.tuples(FLOATS, FLOATS, FLOATS)))
    return Value(value=middle, low=low, high=high, basis=draw(st.sampled_from(list(Basis))))


any_metrics = st.dictionaries(st.sampled_from(list(Metrics.model_fields)), values(), max_size=8).map(lambda fields: Metrics(**fields))
any_rung = st.builds(
    Rung,
    name=st.sampled_from(["baseline", "weights-int8", "a\nvery " + "long" * 30, ""]),
    techniques=st.sampled_from([(), ("weights-int8",), ("weights-int8", "kv-paged")]),
    status=st.sampled_from(list(RungStatus)),
    predicted=any_metrics,
    measured=st.none() | any_metrics,
    samples=st.just(()),
    error=st.none() | st.text(max_size=20),
    seconds=st.none(),
)
any_limits = st.builds(Limits, **{name: st.none() | st.floats(1e-9, 1e12) for name in Limits.model_fields})


@given(width=st.integers(20, 200), rungs=st.lists(any_rung, max_size=4), limits=any_limits, ascii=st.booleans(), colour=st.booleans())
def test_no_run_is_too_odd_to_show(width: int, rungs: list[Rung], limits: Limits, ascii: bool, colour: bool) -> None:
    run = RUN.model_copy(update={"rungs": tuple(rungs), "request": RUN.request.model_copy(update={"limits": limits})})
    assert run_text(run, width=width, ascii=ascii, colour=colour)
    assert comparison_text(compare(run), width=width, ascii=ascii, colour=colour)


@given(width=st.integers(20, 200), metrics=any_metrics, limits=any_limits, status=st.sampled_from(list(Status)), empty=st.booleans())
@example(
    width=80,
    metrics=Metrics(weights_gib=Value.exact(-1e300), peak_memory_gib=Value.exact(1.0)),
    limits=Limits(),
    status=Status.MEETS,
    empty=False,
)
def test_no_advice_is_too_odd_to_show(width: int, metrics: Metrics, limits: Limits, status: Status, empty: bool) -> None:
    chosen = replace(BEST, metrics=metrics, status=status)
    request = FITS.request.model_copy(update={"limits": limits})
    advice = replace(NOTHING_FITS, request=request, chosen=chosen, ranked=() if empty else (chosen, PLAIN))
    assert advice_text(advice, width=width)
    assert advice_text(replace(advice, relaxations=(), binding=None, reasons=()), width=width)
    assert metrics_text(metrics, limits, width=width)


@given(st.tuples(FLOATS, FLOATS, FLOATS), st.none() | FLOATS, st.integers(0, 60))
def test_a_gauge_never_outgrows_its_cells(numbers: tuple[float, float, float], limit: float | None, cells: int) -> None:
    low, middle, high = sorted(numbers)
    assert len(gauge(low, high, middle, limit=limit, cells=cells)) <= cells


def test_views_load_nothing_heavy() -> None:
    program = (
        "import sys; from advisor.rendering.text import advice, comparison, hardware, metrics, models, run;"
        "heavy = {'torch', 'transformers', 'triton', 'textual', 'rich', 'numpy'};"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=HERE.parent)
    assert done.stdout.strip() == "[]"


def figures(text: str) -> set[str]:
    """Every number in a text."""
    return set(re.findall(r"(?<![\w.-])\d+(?:\.\d+)?", text))


@pytest.mark.parametrize("advice", [FITS, NOTHING_FITS], ids=["fits", "nothing fits"])
def test_linear_text_has_the_figures_of_the_ordinary_view(advice: Advice) -> None:
    legend = {"30", "90"}  # what the glyphs of the table mean
    missing = figures(advice_text(advice, width=200)) - figures(linear_text(advice)) - legend
    assert not missing


@pytest.mark.parametrize("advice", [FITS, NOTHING_FITS], ids=["fits", "nothing fits"])
def test_linear_text_is_sentences_without_drawing(advice: Advice) -> None:
    text = linear_text(advice)
    for line in text.splitlines():
        assert line.endswith("."), line
        assert not set(line) & set("█▓▒░┃│─◆●✓×→[]<>\x1b"), line
        assert " -> " not in line
        assert "  " not in line
    assert linear_text(advice, ascii=True).isascii()


def test_linear_text_says_of_a_limited_metric_all_that_is_known() -> None:
    line = next(line for line in linear_text(FITS).splitlines() if line.startswith("TPOT p95: "))
    value = FITS.chosen.metrics.tpot_ms_p95
    assert value is not None
    assert line.startswith(
        f"TPOT p95: {number(value.value)} ms, between {number(value.low)} and {number(value.high)} ms; limit at most 20 ms, ok, "
    )
    assert "probability; basis " in line


def test_linear_text_of_a_miss_says_fail_and_the_way_out() -> None:
    lines = linear_text(NOTHING_FITS).splitlines()
    assert any(line.startswith("TPOT p95: ") and "fail: the limit is missed" in line for line in lines)
    assert any(line.startswith("Binding limit: TPOT p95 ") for line in lines)
    assert sum(line.startswith("To get a plan, change ") for line in lines) == len(NOTHING_FITS.relaxations)


def test_an_option_that_is_on_or_off_is_named_where_it_is_on() -> None:
    plain, with_head = WeightsInt4(), WeightsInt4(head=True)
    candidates = [replace(FITS.chosen, techniques=(technique,)) for technique in (plain, with_head)]
    assert differing_slots(candidates) == {Slot.WEIGHTS: ("int4", "int4 head")}

"""The table of plans shows every number at 120 and at 80 columns, whatever the plans differ in, and names once what they share."""

from dataclasses import replace

import pytest
from rich.cells import cell_len

from advisor.backends.technique import Technique
from advisor.backends.techniques.batching_continuous import BatchingContinuous
from advisor.backends.techniques.decode_prompt_lookup import DecodePromptLookup
from advisor.backends.techniques.kv_int8 import KvInt8
from advisor.backends.techniques.kv_paged import KvPaged
from advisor.backends.techniques.weights_int8 import WeightsInt8
from advisor.planning.advice import Candidate
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.rendering.text.plans import plan_lines, shared_techniques
from advisor.rendering.text.style import Look
from advisor.tui.panels.plans import fitting_columns
from tests.rendering.text.test_text import BEST

NUMBERS = ["Mem\nGiB", "TTFT\np95 ms", "TPOT\np95 ms", "tok/s", "dQ\n%", "met"]
GAP = 2
INNER = {120: 77, 80: 78}
"""Columns of the table by width of the terminal."""
STACKS: dict[str, tuple[tuple[Technique, ...], ...]] = {
    "weights": ((WeightsInt8(), KvPaged()), (KvPaged(),)),
    "most": ((WeightsInt8(), KvInt8(), DecodePromptLookup(), BatchingContinuous(), KvPaged()), ()),
}


def _plans(stacks: tuple[tuple[Technique, ...], ...]) -> list[Candidate]:
    wide = Value(value=987.6, low=1.0, high=999.9, basis=Basis.CATALOGUE)
    names = ("ttft_ms_p95", "tpot_ms_p95", "throughput_tok_s", "peak_memory_gib", "quality_loss_pct")
    return [replace(BEST, techniques=stack, metrics=Metrics(**dict.fromkeys(names, wide))) for stack in stacks]


@pytest.mark.parametrize("inner", INNER.values(), ids=map(str, INNER))
@pytest.mark.parametrize("stacks", STACKS.values(), ids=STACKS)
def test_every_number_is_in_the_table_without_scrolling(stacks: tuple[tuple[Technique, ...], ...], inner: int) -> None:
    columns = fitting_columns(_plans(stacks), Look(80), inner - len("◆m~") - GAP, GAP)
    assert [column.head for column in columns[: len(NUMBERS)]] == NUMBERS
    used = sum(max(cell_len(text) for text in (*column.head.split("\n"), *column.cells)) + GAP for column in columns[: len(NUMBERS)])
    assert used <= inner - len("◆m~") - GAP
    assert not any("…" in cell for column in columns[: len(NUMBERS)] for cell in column.cells)


def test_the_words_of_techniques_are_cut_before_a_number_is_and_ranges_are_left_out_first() -> None:
    plans = _plans(STACKS["weights"])
    wide = fitting_columns(plans, Look(200), 200, GAP)
    assert "[1.00, 1" in wide[0].cells[0]
    narrow = fitting_columns(plans, Look(200), 70, GAP)
    assert narrow[0].cells[0].endswith("~")
    assert wide[-1].head == narrow[-1].head == "Weights"


def test_what_all_plans_have_is_named_once_and_has_no_column() -> None:
    plans = _plans(STACKS["weights"])
    assert shared_techniques(plans) == ["kv-paged"]
    assert [column.head for column in fitting_columns(plans, Look(80), 70, GAP)[len(NUMBERS) :]] == ["Weights"]


def test_a_column_says_whether_it_is_a_percentile_or_a_mean() -> None:
    assert "TTFT p95" in plan_lines([BEST], Look(120))[0]
    mean = replace(BEST, metrics=Metrics(ttft_ms_mean=Value.exact(3.0), tpot_ms_p95=Value.exact(4.0)))
    head = plan_lines([mean], Look(120))[0]
    assert "TTFT mean ms" in head
    assert "TPOT p95 ms" in head

"""Set the 90 % ranges of predictions from published measurements; writes profiles/evidence/ranges.csv.

usage: python tools/calibrate.py CASES.CSV [RANGES.CSV]

For each metric and basis: the 5 % and 95 % quantiles of measured over predicted, each source weighing as the square root of its
rows, stretched around 1 until 90 % of the rows of a source that was left out fall inside, on average over rows. Lines of the tier
`profiled` are measured on the user's own machine and stay as they are.
"""

import csv
import math
import sys
from collections import Counter
from pathlib import Path

from advisor.accuracy import Comparison
from advisor.profiles.evidence import FOLDER, weighted_quantile
from advisor.validate import answer_all, compare
from advisor.validate_cases import read_cases

METRICS = {
    "ttft_ms": "ttft",
    "tpot_ms": "tpot",
    "decode_tok_s_single_stream": "tpot",
    "output_tok_s_total": "throughput",
    "output_tok_s_per_gpu": "throughput",
    "prefill_tok_s": "prefill",
    "peak_memory_gb": "memory",
    "max_batch": "concurrency",
}
COLUMNS = ("metric", "basis", "below", "above", "comparisons")
COVERAGE = 0.9
FEWEST = 20
"""Comparisons below which a line is not written: the next weaker tier's range serves."""

WIDEST = 30
"""Stretch in twentieths that is not exceeded: with a handful of sources, the odd one out would widen every range without bound."""

Ratio = tuple[float, str]
"""Measured over predicted, and the source."""


def main(cases: Path, out: Path) -> None:
    """Predict, calibrate, write."""
    known = read_cases(cases)
    answers = answer_all(list({case.setting for case in known if case.setting is not None}))
    compared = [compare(case, answers[case.setting]) for case in known if case.setting is not None]
    kept = [row for row in csv.reader(out.open(encoding="utf-8", newline="")) if row[1] == "profiled"] if out.exists() else []
    lines = [line for key, ratios in sorted(_ratios(compared).items()) if len(ratios) >= FEWEST for line in [_line(*key, ratios)]]
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *kept, *lines])


def _ratios(compared: list[Comparison]) -> dict[tuple[str, str], list[Ratio]]:
    found: dict[tuple[str, str], list[Ratio]] = {}
    for one in compared:
        if one.predicted is not None and one.case.precision_stated:
            ratio = one.case.measured / one.predicted.value
            if one.case.metric == "decode_tok_s_single_stream":
                ratio = 1 / ratio
            found.setdefault((METRICS[one.case.metric], one.predicted.basis.value), []).append((ratio, one.case.source))
    return found


def _line(metric: str, basis: str, ratios: list[Ratio]) -> tuple[str, str, str, str, int]:
    steps = (step / 20 for step in range(20, WIDEST))
    stretch = next((step for step in steps if _held_out_coverage(ratios, step) >= COVERAGE), WIDEST / 20)
    below, above = _range(ratios, stretch)
    held_out = f"stretched {stretch:.2f}, held out {_held_out_coverage(ratios, stretch):.3f} inside"
    print(f"{metric:12s} {basis:13s} {len(ratios):5d} rows, {held_out}: {below:.3f} to {above:.3f}", file=sys.stderr)
    return metric, basis, f"{below:.3f}", f"{above:.3f}", len(ratios)


def _range(ratios: list[Ratio], stretch: float) -> tuple[float, float]:
    rows = Counter(source for _, source in ratios)
    logs = [math.log(ratio) for ratio, _ in ratios]
    weights = [1 / math.sqrt(rows[source]) for _, source in ratios]
    low, high = (weighted_quantile(logs, weights, q) for q in ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2))
    return math.exp(stretch * min(low, 0.0)), math.exp(stretch * max(high, 0.0))


def _held_out_coverage(ratios: list[Ratio], stretch: float) -> float:
    """Share of rows inside the range that the other sources give; of a single source, inside its own."""
    inside = 0
    for source in {source for _, source in ratios}:
        own, others = ([one for one in ratios if (one[1] == source) is same] for same in (True, False))
        below, above = _range(others or own, stretch)
        inside += sum(below <= ratio <= above for ratio, _ in own)
    return inside / len(ratios)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER / "ranges.csv")

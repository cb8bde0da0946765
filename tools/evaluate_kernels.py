"""Errors of the kernel model on shapes and devices that it was not fitted on.

usage: python -m tools.evaluate_kernels FOLDER   writes benchmarks/results/kernels.md

FOLDER holds the samples that `kernel_samples.py` describes.
"""

import argparse
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

from advisor.estimate.machines.attention_time import attention_constants
from advisor.estimate.machines.collective_time import collective_s, link_rate, measured_curves
from advisor.estimate.machines.gemm_time import product_constants, product_work
from advisor.estimate.operators.types import AttentionCall, Phase
from advisor.profiles.files import write_whole
from tools.fit_kernels import SIZES, collective_rows, fit_attention, fit_products
from tools.kernel_samples import (
    CallSamples,
    CollectiveSamples,
    GemmSamples,
    Key,
    cold_calls,
    cold_products,
    device,
    read_attention,
    read_collectives,
    read_products,
)

OUT = Path(__file__).parents[1] / "benchmarks/results/kernels.md"
FOLDS = 5
Errors = dict[str, list[float]]
"""Label to relative errors, absolute."""


def evaluate(folder: Path) -> None:
    """Fit without each fold of shapes and without each device, and write the errors."""
    products, collectives = read_products(folder), read_collectives(folder)
    decode, prefill = read_attention(folder, "decode"), read_attention(folder, "prefill")
    sections = {
        "Products": _product_errors(products),
        "Attention": _attention_errors(decode, prefill),
        "Collectives": _collective_errors(collectives),
    }
    write_whole(OUT, _page(sections))


def _product_errors(samples: GemmSamples) -> Errors:
    errors: Errors = {}
    everywhere = fit_products(samples)
    _score_products(errors, "fitted, every shape", samples, everywhere)
    for fold in range(FOLDS):
        fitted = {key: {gemm: s for gemm, s in shapes.items() if not _in_fold((gemm.n, gemm.k), fold)} for key, shapes in samples.items()}
        rest = {key: {gemm: s for gemm, s in shapes.items() if _in_fold((gemm.n, gemm.k), fold)} for key, shapes in samples.items()}
        cold = {key: cold_products(device(key), shapes) for key, shapes in rest.items()}
        rows = fit_products(fitted)
        _score_products(errors, "shape held out", cold, rows)
        for name, small in (("n*k below 16M", True), ("n*k from 16M", False)):
            part = {key: {g: s for g, s in shapes.items() if (g.n * g.k < 16e6) == small} for key, shapes in cold.items()}
            _score_products(errors, f"shape held out, {name}", part, rows)
    for id in sorted({id for id, _ in samples}):
        own = {key: cold_products(device(key), shapes) for key, shapes in samples.items() if key[0] == id}
        _score_products(errors, f"device held out: {id}", own, [row for row in everywhere if row["hardware"] != id])
    return errors


def _score_products(errors: Errors, label: str, samples: GemmSamples, rows: list[dict[str, str]]) -> None:
    for key, shapes in samples.items():
        hardware = device(key)
        constants, _ = product_constants(hardware, key[1], rows)
        errors.setdefault(label, []).extend(_errors((constants.seconds(product_work(hardware, g)), s) for g, s in shapes.items()))


def _attention_errors(decode: CallSamples, prefill: CallSamples) -> Errors:
    errors: Errors = {}
    everywhere = fit_attention(decode, prefill)
    cold = {key: cold_calls(device(key), calls) for key, calls in decode.items()}
    for phase, samples in (("decode", cold), ("prefill", prefill)):
        _score_calls(errors, f"{phase}: fitted", samples, everywhere)
    _score_calls(errors, "decode: fitted, cached calls too", decode, everywhere)
    for fold in range(FOLDS):
        parts = [{key: _split(calls, fold, test=False) for key, calls in samples.items()} for samples in (decode, prefill)]
        rows = fit_attention(parts[0], parts[1])
        for phase, samples in (("decode", cold), ("prefill", prefill)):
            _score_calls(errors, f"{phase}: shape held out", {key: _split(calls, fold, test=True) for key, calls in samples.items()}, rows)
    for id in sorted({id for id, _ in decode}):
        for phase, samples in (("decode", cold), ("prefill", prefill)):
            own = {key: calls for key, calls in samples.items() if key[0] == id}
            _score_calls(errors, f"{phase}: device held out: {id}", own, [row for row in everywhere if row["hardware"] != id])
    return errors


def _split(calls: dict[AttentionCall, float], fold: int, *, test: bool) -> dict[AttentionCall, float]:
    """Shapes are batch and heads: lengths of one shape are neighbours."""
    return {call: s for call, s in calls.items() if _in_fold((call.sequences, call.q_heads, call.kv_heads), fold) == test}


def _score_calls(errors: Errors, label: str, samples: CallSamples, rows: list[dict[str, str]]) -> None:
    for key, calls in samples.items():
        hardware = device(key)
        constants, _ = attention_constants(hardware, key[1], rows)
        pairs = (((constants.prefill_s if c.phase == Phase.PREFILL else constants.decode_s)(hardware, c), s) for c, s in calls.items())
        errors.setdefault(label, []).extend(_errors(pairs))


def _collective_errors(samples: CollectiveSamples) -> Errors:
    errors: Errors = {}
    rows, sparse = collective_rows(samples, SIZES), collective_rows(samples, SIZES[::2])
    for (id, kind), times in samples.items():
        between = {at: s for at, s in times.items() if at[1] in SIZES[1::2]}
        label = "all_reduce" if kind == "all_reduce" else "others"
        _score_curves(errors, f"{label}: every second size held out", (id, kind), between, sparse)
        middle = {at: s for at, s in times.items() if at[0] == 4}
        _score_curves(errors, f"{label}: 4 devices from 2 and 8", (id, kind), middle, [row for row in rows if row["ranks"] != "4"])
        others = [row for row in rows if row["hardware"] != id]
        _score_curves(errors, f"{label}: device held out: {id}", (id, kind), times, others)
    return errors


def _score_curves(errors: Errors, label: str, key: Key, times: dict[tuple[int, int], float], rows: list[dict[str, str]]) -> None:
    hardware = device(key)
    curves = measured_curves(hardware, key[1], rows)
    if curves:
        pairs = ((collective_s(curves, link_rate(hardware), size, ranks), s) for (ranks, size), s in times.items())
        errors.setdefault(label, []).extend(_errors(pairs))


def _in_fold(shape: tuple[int, ...], fold: int) -> bool:
    """Whether a shape is in the fold: a fixed random fifth of all shapes."""
    return random.Random(repr(shape)).randrange(FOLDS) == fold


def _errors(pairs: Iterable[tuple[float, float]]) -> Iterator[float]:
    return (abs(predicted / measured - 1.0) for predicted, measured in pairs)


def _page(sections: dict[str, Errors]) -> str:
    lines = ["# Errors of the kernel model", "", "Written by `python -m tools.evaluate_kernels FOLDER`. Relative, absolute.", ""]
    for title, errors in sections.items():
        lines += [f"## {title}", "", "| what | kernels | median | 90th percentile |", "|---|--:|--:|--:|"]
        for label, values in errors.items():
            ordered = sorted(values)
            lines.append(f"| {label} | {len(ordered)} | {median(ordered):.1%} | {ordered[int(0.9 * len(ordered))]:.1%} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the samples that kernel_samples.py describes")
    evaluate(parser.parse_args().folder)

"""Fit what an engine adds to measured kernels: the constants of profiles/engines/*.yaml.

usage: python -m tools.fit_engines CASES.CSV ENGINE... [--write]

Every published time is linear in the constants (tools/engine_terms.py). They are fitted by least squares of the logarithms of
predicted over measured, each row weighing one over its error so that the sum of absolute errors is what falls, within physical
bounds. Each engine has been published on few models, so its constants are pulled: those of decoding to what fits all engines
named at once, as decoding is much the same everywhere, and those of prefilling, where engines differ, to typical values. How
hard was chosen by tools/cross_validate.py. `--write` puts the constants into the engines' files.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from advisor.profiles.engines import load_engine
from advisor.profiles.files import write_whole
from advisor.validation.cases import read_cases
from tools.engine_terms import EXPERT_KERNELS, INDEX, NAMES, OTHER_EXPERTS, Row, Vector, constants_of, rows_of

LONGEST_TTFT_S = 8.0
"""A longer TTFT is queueing time, which does not depend on an engine's constants."""
TOGETHER_STIFFNESS = 0.003
"""Weight of the pull to typical values, per row, where all engines are fitted at once."""
STIFFNESS = 0.02
"""The same for each engine."""
LEAST = 1e-3
"""No constant falls below this share of its typical value: smaller ones are not seen in any row."""
ROUNDS = 50
METRIC_WEIGHT = {"output_tok_s_total": 2.0, "output_tok_s_per_gpu": 2.0, "decode_tok_s_single_stream": 2.0}
"""Rows of metrics that few sources publish count more."""
DISAGGREGATED = ("gb200", "gb300")
"""Published runs there prefill and decode on different devices, whose numbers the rows do not state."""
FITTED = "fitted by tools/fit_engines.py"
"""How the source of fitted constants begins."""
FOLDER = Path(__file__).parents[1] / "advisor" / "profiles" / "engines"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Start value of a constant, and its physical bounds."""

    prior: float
    least: float
    most: float


def bounds(name: str) -> Bounds:
    """Bounds of a constant by its name."""
    phase, _, rest = name.partition(".")
    if rest.startswith("experts."):
        return Bounds(1, 0.4, 2.5) if phase == "decode" else Bounds(2, 0.4, 4)
    if phase == "decode" and rest:
        return {
            "collectives": Bounds(0.8, 0.2, 2.5),
            "attention": Bounds(1, 0.7, 1.02),
            "products": Bounds(1, 0.7, 1.8),
            "traffic": Bounds(1.2, 0.4, 3),
        }.get(rest, Bounds(1, 0.4, 3))
    if rest:
        return {
            "collectives": Bounds(1.6, 0.2, 2.5),
            "attention": Bounds(1.1, 0.7, 1.2),
            "products": Bounds(1, 0.7, 1.8),
            "traffic": Bounds(1.3, 0.4, 3),
            "latent": Bounds(0.8, 0.4, 3),
        }.get(rest, Bounds(1, 0.4, 3))
    return {
        "latency": Bounds(0.6, 0, 1.5),
        "step_s": Bounds(2e-4, 0, 1),
        "layer_s": Bounds(1e-5, 0, 1),
        "expert_layer_s": Bounds(2e-5, 0, 1),
        "sequence_s": Bounds(6.5e-6, 0, 1),
        "prefill_step_s": Bounds(2.8e-3, 0, 1),
        "prefill_layer_s": Bounds(7.5e-5, 0, 1),
        "prefill_recurrent_layer_s": Bounds(1e-3, 0, 3e-3),
        "request_s": Bounds(0.02, 0.003, 0.2),
        "wait_steps": Bounds(3, 0, 8),
    }[name]


LIMITS = tuple(bounds(name) for name in NAMES)
TYPICAL = np.array([limit.prior for limit in LIMITS])
LOWEST = np.maximum(np.array([limit.least for limit in LIMITS]), LEAST * TYPICAL)
HIGHEST = np.array([limit.most for limit in LIMITS])
OF_PREFILL = np.array([name.startswith("prefill") or name in ("request_s", "wait_steps") for name in NAMES])


def usable(rows: Iterable[Row]) -> list[Row]:
    """Rows that constants can be fitted to: no long queues, no runs on an unknown number of devices."""
    return [
        row
        for row in rows
        if not (row.case.metric == "ttft_ms" and row.measured_s > LONGEST_TTFT_S) and row.case.hardware not in DISAGGREGATED
    ]


def fit_all(rows: Sequence[Row]) -> dict[str, Vector]:
    """The constants of every engine that has rows, in the order of `NAMES`."""
    engines = sorted({engine_of(row) for row in rows})
    shared = fit(rows, TYPICAL, TOGETHER_STIFFNESS)
    prior = np.where(OF_PREFILL, TYPICAL, shared)
    fitted = {}
    for engine in engines:
        own = [row for row in rows if engine_of(row) == engine]
        fitted[engine] = with_means(fit(own, prior, STIFFNESS), own)
    return fitted


def engine_of(row: Row) -> str:
    """The profile that predicts a row."""
    assert row.case.configuration is not None
    return row.case.configuration.engine


def fit(rows: Sequence[Row], prior: Vector, stiffness: float) -> Vector:
    """The constants that bring predictions of the rows closest, each pulled to its prior."""
    matrix, measured = np.array([row.terms for row in rows]), np.array([row.measured_s for row in rows])
    weights = np.array([METRIC_WEIGHT.get(row.case.metric, 1.0) for row in rows])
    scaled, scale, fitted = matrix / measured[:, None], np.maximum(prior, 0.1 * TYPICAL), np.clip(prior, LOWEST, HIGHEST)
    for _ in range(ROUNDS):
        predicted = np.maximum(scaled @ fitted, 1e-3)
        error = np.log(predicted)
        weight = weights / np.maximum(np.abs(error), 0.05)
        slope = scaled * scale / predicted[:, None]
        pull_weight = stiffness * weights.sum()
        curve = (slope * weight[:, None]).T @ slope + pull_weight * np.eye(len(NAMES))
        pull = (slope * weight[:, None]).T @ error + pull_weight * (fitted - prior) / scale
        fitted = fitted + 0.7 * scale * _bounded_step(curve, pull, (LOWEST - fitted) / scale, (HIGHEST - fitted) / scale)
    return fitted


def _bounded_step(curve: Vector, pull: Vector, least: Vector, most: Vector) -> Vector:
    """Coordinate descent on the quadratic `curve`, `pull` within bounds."""
    step = np.zeros(len(pull))
    for _ in range(25):
        for i in range(len(pull)):
            step[i] = np.clip(step[i] - (pull[i] + curve[i] @ step) / curve[i, i], least[i], most[i])
    return step


def errors(rows: Sequence[Row], predicted_s: Vector) -> list[str]:
    """A line for each metric: rows, median and mean error, bias, in percent."""
    lines = []
    for metric in sorted({row.case.metric for row in rows}):
        chosen = [i for i, row in enumerate(rows) if row.case.metric == metric]
        ratio = predicted_s[chosen] / np.array([rows[i].measured_s for i in chosen])
        ratio = 1 / ratio if rows[chosen[0]].rate else ratio
        size = 100 * np.abs(ratio - 1)
        bias = 100 * (np.median(ratio) - 1)
        lines.append(f"{metric:28s} {len(chosen):5d} rows, median {np.median(size):5.1f} %, mean {size.mean():5.1f} %, bias {bias:+5.1f} %")
    return lines


def as_yaml(constants: Vector, source: str) -> dict[str, object]:
    """The constants as the block `gpu` of an engine's file; experts on other architectures take the mean of the known ones."""
    values = {name: float(f"{constants[index]:.3g}") for name, index in INDEX.items()}
    block: dict[str, object] = {name: value for name, value in values.items() if "." not in name}
    for phase in ("decode", "prefill"):
        scales = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{phase}.") and "experts" not in name}
        scales["experts"] = values[f"{phase}.experts.{OTHER_EXPERTS[0]}.{OTHER_EXPERTS[1]}"]
        block[phase] = scales
    block["experts"] = [
        {
            "arch": arch,
            "format": format,
            "decode": values[f"decode.experts.{arch}.{format}"],
            "prefill": values[f"prefill.experts.{arch}.{format}"],
        }
        for arch, format in EXPERT_KERNELS
    ]
    block["joins"] = True
    block["element_s"] = 0
    block["source"] = source
    return block


def with_means(constants: Vector, rows: Sequence[Row]) -> Vector:
    """Grouped products that no row has take the geometric mean of those that some have."""
    used = np.abs(np.array([row.terms for row in rows])).sum(axis=0) > 0
    settled = constants.copy()
    for phase in ("decode", "prefill"):
        indices = [INDEX[f"{phase}.experts.{arch}.{format}"] for arch, format in (*EXPERT_KERNELS, OTHER_EXPERTS)]
        logs = [math.log(constants[index]) for index in indices if used[index]]
        mean = math.exp(sum(logs) / len(logs)) if logs else 1.0
        for index in indices:
            settled[index] = constants[index] if used[index] else mean
    return settled


def write(engine: str, constants: Vector, rows: int) -> None:
    """Put the constants into the engine's file."""
    path = FOLDER / f"{engine}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    source = f"{FITTED} on {rows} rows of benchmarks/published/cases.csv"
    content["gpu"] = as_yaml(constants, source)
    write_whole(path, yaml.safe_dump(content, sort_keys=False, width=160))


def main() -> None:
    """Read, simulate, fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("engines", nargs="+")
    parser.add_argument("--write", action="store_true", help="put the constants into the engines' files")
    options = parser.parse_args()
    cases = [case for case in read_cases(options.cases) if case.configuration is not None and case.configuration.engine in options.engines]
    measured = usable(rows_of(cases))
    for engine, constants in fit_all(measured).items():
        rows = [row for row in measured if engine_of(row) == engine]
        matrix = np.array([row.terms for row in rows])
        print(f"{engine}: as it is", *errors(rows, matrix @ constants_of(load_engine(engine).gpu)), sep="\n  ")
        print(f"{engine}: fitted", *errors(rows, matrix @ constants), sep="\n  ")
        for name, value in zip(NAMES, constants, strict=True):
            print(f"    {name:32s} {value:.3g}")
        if options.write:
            write(engine, constants, len(rows))


if __name__ == "__main__":
    main()

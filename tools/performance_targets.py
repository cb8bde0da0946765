"""Performance targets of the runtime and its kernels, and whether the committed results meet them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

from benchmarks.harness.record import Record
from tools.performance_results import Device, percentile, ratio, share
from tools.stack_figures import ratio_error, regret

LARGE_BYTES = 256 * 2**20
"""Of a cache in bf16: from there on launches do not count."""
Figure = Callable[[Record, Device], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One line of the table: a figure of every record that matches, and its bound."""

    what: str
    part: str
    pattern: str
    figure: Figure
    bound: float
    at_most: bool = False
    unit: Literal["%", "x", "tok/s", "ms"] = "%"
    where: Callable[[Record], bool] = lambda record: True
    on: Literal["gpu", "cpu"] = "gpu"
    middle: bool = False
    """Whether only the median has to meet the bound, not every figure."""

    @property
    def words(self) -> str:
        """The bound as text."""
        return f"{'≤' if self.at_most else '≥'} {figure_text(self.bound, self.unit)}"

    def figures(self, device: Device) -> list[tuple[float, str]]:
        """The figures and their cases, worst first."""
        rows = [
            (value, record.case)
            for record in device.records(self.part, self.pattern)
            if self.where(record) and (value := self.figure(record, device)) is not None
        ]
        return sorted(rows, reverse=self.at_most)

    def is_met(self, value: float) -> bool:
        """Whether a figure meets the bound."""
        return value <= self.bound if self.at_most else value >= self.bound


def figure_text(value: float, unit: str) -> str:
    """A figure with its unit."""
    return {"%": f"{100 * value:.0f} %", "x": f"{value:.2f} x", "tok/s": f"{value:.0f} tok/s", "ms": f"{1e3 * value:.0f} ms"}[unit]


def target_rows(devices: tuple[Device, ...]) -> Iterator[tuple[str, ...]]:
    """What, target, device, figures and verdict: a row for each target and device, or one that says that it was not measured."""
    for target in TARGETS:
        measured = [
            (device, figures)
            for device in devices
            if target.on == ("gpu" if device.is_gpu else "cpu") and (figures := target.figures(device))
        ]
        for device, figures in measured:
            yield target.what, target.words, device.name, _figures_text(target, figures), _verdict(target, [value for value, _ in figures])
        if not measured:
            yield target.what, target.words, target.on.upper(), "", "not measured"


def _figures_text(target: Target, figures: list[tuple[float, str]]) -> str:
    value, case = figures[0]
    if target.middle:
        return f"median {figure_text(median(value for value, _ in figures), target.unit)} of {len(figures)}"
    if len(figures) == 1:
        return figure_text(value, target.unit)
    return f"median {figure_text(median(value for value, _ in figures), target.unit)}, worst {figure_text(value, target.unit)} ({case})"


def _verdict(target: Target, values: list[float]) -> str:
    if target.middle:
        return "met" if target.is_met(median(values)) else "**missed**"
    met = sum(target.is_met(value) for value in values)
    return "met" if met == len(values) else "**missed**" if not met else f"**met in {met} of {len(values)}**"


def _share_of(candidate: str) -> Figure:
    return lambda record, device: share(record, candidate, device)


def _over(slower: str, faster: str) -> Figure:
    return lambda record, device: ratio(record, slower, faster)


def _percentile(candidate: str, percent: int) -> Figure:
    """The seconds that `percent` of 100 samples of a candidate do not exceed."""

    def of(record: Record, device: Device) -> float | None:
        timing = next((timing for timing in record.timings if timing.name == candidate and timing.seconds), None)
        return percentile(timing.seconds, percent) if timing is not None else None

    return of


def _value(name: str) -> Figure:
    return lambda record, device: record.values.get(name)


def _ratio_off(record: Record, device: Device) -> float | None:
    error = ratio_error(record, list(device.records("stacks")))
    return None if error is None else abs(error)


def _regret(record: Record, device: Device) -> float | None:
    return regret(record, list(device.records("stacks")))


def _off(metric: str) -> Figure:
    def figure(record: Record, device: Device) -> float | None:
        error = record.values.get(f"{metric}_error")
        return None if error is None else abs(error)

    return figure


def _is_large(record: Record) -> bool:
    return record.work["bf16"].bytes >= LARGE_BYTES


def _is_bulk(record: Record) -> bool:
    is_row_operator = record.case.startswith(("add-rmsnorm/", "silu-mul/"))
    return is_row_operator and record.work["advisor"].bytes >= LARGE_BYTES // 4


def _has(**settings: object) -> Callable[[Record], bool]:
    return lambda record: all(record.settings.get(name) == value for name, value in settings.items())


_DECODE, _KERNELS = "paged-decode/*", "kernels"
TARGETS = (
    *(
        Target(
            what=f"decode attention, {kv_format} cache (of 256 MiB or more in bf16): share of copy bandwidth",
            part=_KERNELS, pattern=_DECODE, figure=_share_of(kv_format), bound=bound, where=_is_large,
        )
        for kv_format, bound in (("bf16", 0.85), ("fp8", 0.75), ("int8", 0.75), ("int4", 0.60))
    ),
    Target(
        what="decode attention, bf16 cache: speed over compiled flex_attention",
        part=_KERNELS, pattern=_DECODE, figure=_over("flex", "bf16"), bound=1.0, unit="x", where=_is_large,
    ),
    Target(
        what="decode attention, bf16 cache: speed over gather and SDPA",
        part=_KERNELS, pattern=_DECODE, figure=_over("gather-sdpa", "bf16"), bound=1.5, unit="x", where=_is_large,
    ),
    Target(
        what="fp8 cache at 16k: time by that of bf16",
        part=_KERNELS, pattern=_DECODE, figure=_over("fp8", "bf16"), bound=0.60, at_most=True, unit="x", where=_has(context=16384),
    ),
    Target(
        what="int4 cache at 32k: time by that of bf16",
        part=_KERNELS, pattern=_DECODE, figure=_over("int4", "bf16"), bound=0.45, at_most=True, unit="x", where=_has(context=32768),
    ),
    *(
        Target(
            what=f"int4 linear, {rows} row{'s' if rows > 1 else ''}: share of copy bandwidth",
            part=_KERNELS, pattern="int4-linear/*", figure=_share_of("int4-g128"), bound=bound, where=_has(rows=rows),
        )
        for rows, bound in ((1, 0.65), (16, 0.60))
    ),
    Target(
        what="int4 linear, 1 row: speed over bf16",
        part=_KERNELS, pattern="int4-linear/*", figure=_over("bf16", "int4-g128"), bound=2.4, unit="x", where=_has(rows=1),
    ),
    Target(
        what="int8 linear, 1 row: share of copy bandwidth",
        part=_KERNELS, pattern="int8-linear/*", figure=_share_of("int8"), bound=0.80, where=_has(rows=1),
    ),
    Target(
        what="int8 linear, 1 row: speed over bf16",
        part=_KERNELS, pattern="int8-linear/*", figure=_over("bf16", "int8"), bound=1.6, unit="x", where=_has(rows=1),
    ),
    Target(
        what="block-sparse prefill: time by density times own dense time",
        part=_KERNELS, pattern="block-sparse-prefill/*", figure=_value("time_by_density"), bound=1.2, at_most=True, unit="x",
    ),
    Target(
        what="block-sparse prefill, dense: speed over SDPA",
        part=_KERNELS, pattern="block-sparse-prefill/*", figure=_over("sdpa", "dense"), bound=0.7, unit="x",
    ),
    Target(
        what="add+RMSNorm and SiLU·mul, 64 MiB and more: share of copy bandwidth",
        part=_KERNELS, pattern="*/*[0-9]x*[0-9]", figure=_share_of("advisor"), bound=0.90, where=_is_bulk,
    ),
    *(
        Target(
            what=f"Llama-8B shape, one sequence, {weights} weights",
            part="runtime", pattern=f"one-sequence/llama-8b-{weights}", figure=_value("tokens_per_s"), bound=bound, unit="tok/s",
        )
        for weights, bound in (("bf16", 229.0), ("int8", 400.0), ("int4", 555.0))
    ),
    Target(
        what="Llama-8B shape, 32 to 128 sequences: speed over transformers' generate_batch",
        part="runtime", pattern="continuous/llama-8b-*", figure=_over("transformers", "advisor"), bound=2.0, unit="x",
    ),
    Target(
        what="Llama-8B shape, 32 to 128 sequences: decoding step by its floor",
        part="runtime", pattern="continuous/llama-8b-*", figure=_value("step_by_floor"), bound=1.25, at_most=True, unit="x",
    ),
    Target(
        what="Llama-8B shape, 32 to 128 sequences: share of a step in which the device waits for the host",
        part="runtime", pattern="continuous/llama-8b-*", figure=_value("host_gap"), bound=0.03, at_most=True,
    ),
    *(
        Target(
            what=f"predicted against measured, {words}: median error over stacks",
            part="stacks", pattern="*", figure=_off(metric), bound=0.10, at_most=True, on=on, middle=True,
        )
        for on in ("gpu", "cpu")
        for metric, words in (("tpot_ms", "TPOT"), ("throughput_tok_s", "throughput"))
    ),
    *(
        Target(
            what="predicted ratio to the baseline: median error over stacks",
            part="stacks", pattern="*", figure=_ratio_off, bound=0.10, at_most=True, on=on, middle=True,
        )
        for on in ("gpu", "cpu")
    ),
    *(
        Target(
            what="regret: throughput lost by the stack predicted best, by load",
            part="stacks", pattern="*", figure=_regret, bound=0.05, at_most=True, on=on,
        )
        for on in ("gpu", "cpu")
    ),
    Target(
        what="16 mixed requests on a CPU: speed over transformers' continuous batching",
        part="runtime", pattern="mixed-16/*", figure=_value("best_ratio"), bound=1.3, unit="x", on="cpu",
    ),
    Target(
        what="int4 decode on a CPU: speed over own bf16",
        part="runtime", pattern="decode/*-batch1", figure=_over("bf16", "int4-g128"), bound=2.0, unit="x", on="cpu",
    ),
    Target(
        what="int4 decode on a CPU, output head in int4 too: speed over own bf16",
        part="runtime", pattern="decode/*-batch1", figure=_over("bf16", "int4-g128-head"), bound=2.0, unit="x", on="cpu",
    ),
    Target(
        what="session: launch to its first frame, the slowest",
        part="session", pattern="launch", figure=_percentile("to the first frame", 100), bound=1.0, at_most=True, unit="ms", on="cpu",
    ),
    *(
        Target(
            what=f"session: key in a limit to its frame, over the models below: {words}",
            part="session", pattern="key in a limit/*", figure=_percentile("to its frame", percent), bound=0.15, at_most=True, unit="ms",
            on="cpu",
        )
        for percent, words in ((50, "median"), (95, "95 of 100 keys"), (100, "the slowest of all"))
    ),
)  # fmt: skip
"""Ratios are of medians of one run."""

"""The answers of docs/performance.md: a question, what was measured, on what. Figures without a measurement are named in one sentence."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.harness.record import Record
from tools.performance_results import Device, percentile, ratio
from tools.stack_figures import ratio_error, regret

Say = Callable[[Sequence[Record]], str | None]
"""The answer that finished records give; `None` where they hold no figure."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A question that users ask, and the records that answer it."""

    question: str
    part: str
    """File of the results, such as `runtime`."""
    pattern: str
    """Of the cases in it."""
    say: Say

    def on(self, device: Device) -> str | None:
        """The answer measured on a device; `None` where nothing was."""
        records = list(device.records(self.part, self.pattern))
        return self.say(records) if records else None


def answer_rows(devices: Sequence[Device]) -> Iterator[tuple[str, str, str]]:
    """Question, answer and device, for each answer that was measured."""
    for answer in ANSWERS:
        for device in devices:
            text = answer.on(device)
            if text is not None:
                yield answer.question, text, device.name


def unanswered(devices: Sequence[Device]) -> list[str]:
    """Questions that no device has an answer to."""
    return [answer.question for answer in ANSWERS if not any(answer.on(device) for device in devices)]


def _speedups(first: str, *others: str) -> Say:
    """How many times as fast as the first candidate the others are, by medians of the same run."""

    def say(records: Sequence[Record]) -> str | None:
        lines = []
        for record in records:
            ratios = [f"{name} {value:.2f} x" for name in others if (value := ratio(record, first, name)) is not None]
            if ratios:
                lines.append(f"{_workload(record)}: {', '.join(ratios)}")
        return "; ".join(lines) or None

    return say


def _best_ratio(records: Sequence[Record]) -> str | None:
    ratios = [(record.values["best_ratio"], _workload(record)) for record in records if "best_ratio" in record.values]
    return ", ".join(f"{value:.2f} x ({model})" for value, model in ratios) or None


def _times(candidate: str) -> Say:
    """The median time of a candidate, for each case."""

    def say(records: Sequence[Record]) -> str | None:
        times = [(record.median_s(candidate), _workload(record)) for record in records]
        return ", ".join(f"{1e3 * seconds:.3g} ms ({workload})" for seconds, workload in times if seconds) or None

    return say


def _errors(records: Sequence[Record]) -> str | None:
    lines = []
    for metric, name in (("tpot_ms", "TPOT"), ("throughput_tok_s", "throughput")):
        errors = [abs(record.values[f"{metric}_error"]) for record in records if f"{metric}_error" in record.values]
        if errors:
            lines.append(f"{name} {100 * median(errors):.1f} % (median of {len(errors)} stacks)")
    return ", ".join(lines) or None


def _choices(records: Sequence[Record]) -> str | None:
    errors = [abs(error) for record in records if (error := ratio_error(record, records)) is not None]
    regrets = [lost for record in records if (lost := regret(record, records)) is not None]
    if not errors or not regrets:
        return None
    return (
        f"ratio to the baseline {100 * median(errors):.1f} % off (median of {len(errors)} stacks); the stack predicted best loses "
        f"{100 * max(regrets):.1f} % of the best measured throughput (worst of {len(regrets)} loads)"
    )


def _losses(*cases: str) -> Say:
    """Perplexity increase of some techniques, with its 90 % range."""

    def say(records: Sequence[Record]) -> str | None:
        lines = []
        for record in records:
            value, low, high = (record.values.get(f"quality_loss_pct{end}") for end in ("", "_low", "_high"))
            if record.case in cases and value is not None and low is not None and high is not None:
                lines.append(f"{record.case} {value:.2g} % [{low:.2g}, {high:.2g}]")
        return ", ".join(lines) or None

    return say


def _slowest(candidate: str, percent: int) -> Say:
    """The time that `percent` of 100 samples of a candidate do not exceed, the largest over the records."""

    def say(records: Sequence[Record]) -> str | None:
        times = [percentile(timing.seconds, percent) for record in records if (timing := record.timing(candidate)) and timing.seconds]
        return f"{1e3 * max(times):.0f} ms" if times else None

    return say


def _workload(record: Record) -> str:
    return record.case.partition("/")[2]


_DECODE_1, _DECODE_16, _PROMPT = "decode/*-batch1", "decode/*-batch16", "prefill/*-512"
_SHOWN_LOSSES = ("weights-int8", "weights-int4 group size 32", "kv-int8", "kv-int4")
ANSWERS = (
    Answer("Does it serve a mixed batch faster than transformers' continuous batching?", "runtime", "mixed-16/*", _best_ratio),
    Answer("How long does a decoding step of one sequence take in bf16?", "runtime", _DECODE_1, _times("bf16")),
    Answer(
        "How much faster does one sequence decode with quantised weights?",
        "runtime",
        _DECODE_1,
        _speedups("bf16", "int8", "int4-g128", "int4-g128-head"),
    ),
    Answer("And 16 sequences?", "runtime", _DECODE_16, _speedups("bf16", "int8", "int4-g128")),
    Answer("How much faster is a prompt of 512 tokens with quantised weights?", "runtime", _PROMPT, _speedups("bf16", "int8", "int4-g128")),
    Answer("How much faster does a quantised KV cache decode?", "runtime", "kv-formats/*", _speedups("bf16", "fp8", "int8", "int4")),
    Answer("How far off are predictions from a profile of the same machine?", "stacks", "*", _errors),
    Answer("How well do predictions choose between stacks?", "stacks", "*", _choices),
    Answer("What do lossy techniques cost on the shipped model (perplexity)?", "quality", "*", _losses(*_SHOWN_LOSSES)),
    Answer(
        "How long until the terminal interface shows its first frame (slowest launch)?",
        "session",
        "launch",
        _slowest("to the first frame", 100),
    ),
    Answer(
        "How long from a key in a limit to the new plan on screen (95 of 100 keys)?",
        "session",
        "key in a limit/*",
        _slowest("to its frame", 95),
    ),
)

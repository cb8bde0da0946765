"""What the stacks of a benchmark say about predictions: errors of ratios to the baseline, and the regret of choosing by prediction."""

from collections.abc import Iterable

from benchmarks.harness.record import Record

LOAD = ("model", "prompt_tokens", "output_tokens", "concurrency")
"""Settings that stacks of one load share."""
RATE = "throughput_tok_s"


def served(records: Iterable[Record]) -> list[Record]:
    """The records of stacks that were served."""
    return [record for record in records if f"measured_{RATE}" in record.values and f"predicted_{RATE}" in record.values]


def of_load(record: Record, records: Iterable[Record]) -> list[Record]:
    """The stacks with the load of a record."""
    return [other for other in served(records) if all(other.settings.get(name) == record.settings.get(name) for name in LOAD)]


def ratio_error(record: Record, records: Iterable[Record]) -> float | None:
    """Relative error of the predicted ratio of throughput to the baseline of the same load; `None` for the baseline and without one."""
    if not record.settings.get("techniques") or not served([record]):
        return None
    for other in of_load(record, records):
        if not other.settings.get("techniques"):
            predicted, measured = (record.values[f"{side}_{RATE}"] / other.values[f"{side}_{RATE}"] for side in ("predicted", "measured"))
            return predicted / measured - 1
    return None


def regret(record: Record, records: Iterable[Record]) -> float | None:
    """Throughput lost by the stack that is predicted best, as a share of the best measured one; only for the baseline of a load."""
    if record.settings.get("techniques") or not served([record]):
        return None
    stacks = of_load(record, records)
    best = max(stacks, key=lambda stack: stack.values[f"predicted_{RATE}"])
    return 1 - best.values[f"measured_{RATE}"] / max(stack.values[f"measured_{RATE}"] for stack in stacks)

"""One line about a record, for progress output."""

from benchmarks.harness.record import Record


def summary_line(record: Record) -> str:
    """Times, rates and ratios of a case, or what went wrong."""
    if record.status in ("failed", "started"):
        return f"failed: {'; '.join(record.notes) or 'the process died'}"
    if record.status == "red":
        return "RED " + "; ".join(record.notes)
    cells = [_timing_words(record, timing.name) for timing in record.timings]
    cells += [f"{name} {value:.4g}" for name, value in record.values.items()]
    return " | ".join((*cells, *record.notes)) or "done"


def _timing_words(record: Record, name: str) -> str:
    seconds = record.median_s(name)
    if seconds is None:
        timing = record.timing(name)
        return f"{name} not run ({timing.why if timing else ''})"
    first = record.median_s(record.timings[0].name)
    rate, flops = record.rate(name), record.rate(name, "flops")
    words = f"{name} {seconds * 1e6:.4g} us"
    if rate:
        words += f" {rate / 1e9:.4g} GB/s"
    if flops:
        words += f" {flops / 1e12:.4g} TFLOP/s"
    if first and name != record.timings[0].name:
        words += f" ({seconds / first:.2f}x {record.timings[0].name})"
    return words

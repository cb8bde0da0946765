"""A workload in a phrase."""

from advisor.numbers import number
from advisor.profiles.request import Load, Workload


def workload_words(workload: Workload) -> str:
    """Lengths and load, as in `1024 prompt + 256 output tokens, sequences up to 32768, 16 in flight`."""
    load = f"{workload.concurrency} in flight" if workload.concurrency else workload.load.value
    if workload.request_rate_per_s:
        load = f"{number(workload.request_rate_per_s, trim=True)} requests per second"
    if workload.load is Load.BURST:
        load = f"{workload.concurrency} at once"
    if workload.trace is not None:
        load = f"on average, the {len(workload.trace.requests)} requests of {workload.trace.name}"
    shared = f" ({workload.shared_prefix_tokens} shared)" if workload.shared_prefix_tokens else ""
    longest = f", sequences up to {workload.longest_tokens}" if workload.longest_tokens > workload.context_tokens else ""
    return f"{workload.prompt_tokens} prompt{shared} + {workload.output_tokens} output tokens{longest}, {load}"

"""The `advisor plan` line that asks a question, and the flag of each limit."""

import shlex
from collections.abc import Iterable, Mapping

LIMIT_FLAGS = {
    "ttft_ms_p95": "--ttft-ms",
    "tpot_ms_p95": "--tpot-ms",
    "throughput_tok_s": "--throughput",
    "request_rate_per_s": "--request-rate",
    "memory_gib_per_device": "--memory-gib",
    "quality_loss_pct": "--quality-loss",
}
"""Field of `Limits` to the flag that sets it."""


def plan_command(model: str, options: Mapping[str, float | str | None], *, require: Iterable[str], forbid: Iterable[str]) -> str:
    """The line with every option that has a value, quoted for a shell."""
    words = ["advisor", "plan", model]
    for option, value in options.items():
        if value is not None:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    words += [word for name in require for word in ("--require", name)]
    words += [word for name in forbid for word in ("--forbid", name)]
    return shlex.join((*words, "-o", "plan.yaml"))

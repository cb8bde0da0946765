"""Whether other processes use this machine's processors, and the OpenMP wait policy that suits."""

import os
import time
from collections.abc import Callable, Mapping

from advisor.backends.detection.cgroup import file_text
from advisor.backends.detection.host import host_root

WATCH_S = 0.3
BUSY_SHARE = 0.15
"""Share of the usable processors above which other processes disturb timings."""
WAIT_POLICY = "OMP_WAIT_POLICY"
PASSIVE = "PASSIVE"


def processors_busy(usable_cores: int, ticks: Callable[[], int | None] | None = None) -> bool:
    """Whether other processes use more than `BUSY_SHARE` of the processors; arguments as of `busy_share`."""
    share = busy_share(usable_cores, ticks)
    return share is not None and share > BUSY_SHARE


def busy_share(usable_cores: int, ticks: Callable[[], int | None] | None = None, *, watch_s: float = WATCH_S) -> float | None:
    """Share of `usable_cores` that other processes use while this one sleeps for `watch_s`, 0 to 1.

    `ticks` counts as `busy_ticks` does. `None` where the system does not report them.
    """
    ticks = ticks or busy_ticks
    before, started = ticks(), time.monotonic()
    if before is None:
        return None
    time.sleep(watch_s)
    after = ticks()
    if after is None:
        return None
    return min((after - before) / os.sysconf("SC_CLK_TCK") / (max(time.monotonic() - started, watch_s) * usable_cores), 1.0)


def wait_policy(environ: Mapping[str, str], usable_cores: int, ticks: Callable[[], int | None] | None = None) -> dict[str, str]:
    """Environment variables for a process that computes: `OMP_WAIT_POLICY=PASSIVE` where processors are shared.

    OpenMP threads that spin while they wait make small products up to three times faster on an idle machine, and fifty times slower
    on a busy one, where they take the processor from the thread that they wait for. A policy in `environ` is not changed.
    """
    if WAIT_POLICY in environ or not processors_busy(usable_cores, ticks):
        return {}
    return {WAIT_POLICY: PASSIVE}


def busy_ticks() -> int | None:
    """Clock ticks that all processors together have been busy since boot; `None` where the system does not report them."""
    try:
        fields = [int(word) for word in file_text(host_root() / "proc/stat").split("\n", 1)[0].split()[1:]]
        user, nice, system, _idle, _wait, irq, soft_irq, *_ = fields
    except ValueError:
        return None
    return user + nice + system + irq + soft_irq

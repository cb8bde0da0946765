"""Whether others use this machine's processors, and what the threads of ours do about it while they wait for each other."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

WATCH_S = 0.3
BUSY_SHARE = 0.15
"""Of the usable processors: when others use more while we wait, timings are disturbed."""
WAIT_POLICY = "OMP_WAIT_POLICY"
ASLEEP = "PASSIVE"


def processors_busy(usable_cores: int) -> bool:
    """Watch for `WATCH_S` while this process waits; `False` where the system does not count."""
    before = busy_ticks()
    time.sleep(WATCH_S)
    after = busy_ticks()
    if before is None or after is None:
        return False
    return (after - before) / os.sysconf("SC_CLK_TCK") > BUSY_SHARE * WATCH_S * usable_cores


def wait_policy(environ: Mapping[str, str], usable_cores: int) -> dict[str, str]:
    """What to add to the environment of a process that computes, so that its threads wait as suits this machine just now.

    Threads that wait awake make small products up to three times faster, and fifty times slower once others want the same
    processors: a thread then waits for one that does not run. So they sleep where processors are shared. What the user has set stays.
    """
    if WAIT_POLICY in environ or not processors_busy(usable_cores):
        return {}
    return {WAIT_POLICY: ASLEEP}


def busy_ticks() -> int | None:
    """Clock ticks that all processors together have spent on work; `None` where the system does not count."""
    try:
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _wait, irq, soft_irq, *_ = fields
    return user + nice + system + irq + soft_irq

"""Waits of requests that arrive at random, from queueing theory: what `closed_form` adds to the times of a replica that is always busy.

Arrays have an entry for each member of a family of deployments; `rate` is in requests per second on a replica.
"""

import math

import numpy as np

from advisor.estimate.arrays import Indices, Numbers

TAIL = 0.05
"""Share of the requests above the 95th percentile."""


def batch_sizes_p95(batches: Indices, slots: int) -> Indices:
    """95th percentile of the requests in flight, of which `batches` is the mean: a Poisson number by its normal approximation."""
    return np.minimum(np.ceil(batches + 1.645 * np.sqrt(batches)), slots).astype(int)


def prefill_wait_s(prefill_s: Numbers, step_s: Numbers, rate: float) -> Numbers:
    """95th percentile of the wait for the step that runs, of `step_s`, and for prompts that arrived earlier, `prefill_s` each.

    M/D/1: an exponential tail with the mean wait of Pollaczek and Khinchine, or at low load what is left of one service.
    """
    utilisation = np.minimum(rate * prefill_s, 1 - TAIL)
    tail_s = prefill_s * utilisation / (2 * (1 - utilisation)) * np.maximum(np.log(utilisation / TAIL), 0.0)
    residual_s = prefill_s * np.maximum(1 - TAIL / utilisation, 0.0) / (1 - utilisation)
    waits_s: Numbers = np.maximum(tail_s, residual_s) + step_s * (1 - TAIL)
    return waits_s


def batch_wait_s(cycle_s: Numbers, prefill_s: Numbers, batches: Indices, rate: float) -> Numbers:
    """Static batching: 95th percentile of the wait for the batch that runs, or for the earlier prompts of the next one.

    `cycle_s` is the time of a batch of `batches` requests, `prefill_s` that of one of its prompts.
    """
    utilisation = np.minimum(rate * cycle_s / batches, 1.0)
    waits_s = cycle_s * np.maximum(1 - TAIL / utilisation, 0.0)
    longest_s: Numbers = np.maximum(waits_s, (batches - 1) * prefill_s)
    return longest_s


def slot_wait_s(cycle_s: Numbers, slots: int, load: Numbers) -> Numbers:
    """95th percentile of the wait for a free slot, which a request takes for `cycle_s`, at `load` as a share of capacity.

    M/M/c with exponential waits. The probability of waiting is Sakasegawa's approximation (1977); waits are halved, as services take
    nearly equal times (M/D/c).
    """
    waiting_share = np.maximum(load ** math.sqrt(2 * (slots + 1)), TAIL)
    waits_s: Numbers = cycle_s / (2 * slots * np.maximum(1 - load, TAIL)) * np.log(waiting_share / TAIL)
    return waits_s

"""Group the stacks of a search by what their prices depend on, so that every distinct price is computed once."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from advisor.backends.deployment import Batching, BatchPolicy, Deployment
from advisor.estimate.arrays import Indices
from advisor.estimate.estimator import Estimator
from advisor.estimate.memory.retention import retention_of
from advisor.estimate.steps.pricer import cost_equivalent_cache

HashableT = TypeVar("HashableT", bound=Hashable)
STATIC, WHOLE, CHUNKED = range(3)
"""Batching policies as numbers: static, continuous with whole prompts, continuous with chunked prefill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceGroups:
    """Deployments of a search, with an entry for each in every array: equal group numbers where the named cost is equal."""

    deployments: Sequence[Deployment]
    step_group: Indices
    """Step times are equal: batching and the size of a block make no difference."""
    family_group: Indices
    """Decoding and parallelism are equal: `Family` prices such deployments together."""
    memory_group: Indices
    """Memory is equal up to batching."""
    evicts: Indices
    """1 where the cache evicts blocks: it then holds more of a prompt that is prefilled whole than of one in chunks; else 0."""
    uncertainty_group: Indices
    """Ranges are equal: they depend on weights, decoding and parallelism."""
    positions: Indices
    """Tokens of one sequence in a decoding step: 1, and drafted ones."""
    policies: Indices
    """`STATIC`, `WHOLE` or `CHUNKED`."""
    sequences: Indices
    """Most sequences of the batching."""
    budgets: Indices
    """Token budget of a step."""


def price_groups(deployments: Sequence[Deployment], estimator: Estimator) -> PriceGroups:
    """Group the deployments of a search, in the order of the search."""
    firsts, run = _batching_runs(deployments)
    numbers = [unique_values(column)[1] for column in zip(*(_cost_keys(first, estimator) for first in firsts), strict=True)]
    weights, attention, cache, decoding, parallel, cache_memory = numbers or [np.empty(0, int)] * 6
    batchings = [_batching_numbers(deployment.batching, estimator.engine.token_budget) for deployment in deployments]
    distinct, batching = unique_values(batchings)
    policies, sequences, budgets = np.array(distinct, int).reshape(-1, 3)[batching].T
    return PriceGroups(
        deployments=deployments,
        step_group=unique_rows(weights, attention, cache, decoding, parallel)[1][run],
        family_group=unique_rows(decoding, parallel)[1][run],
        memory_group=unique_rows(weights, cache_memory, decoding, parallel)[1][run],
        evicts=np.array([retention_of(first) is not None for first in firsts], int)[run],
        uncertainty_group=unique_rows(weights, decoding, parallel)[1][run],
        positions=np.array([first.decoding.draft_tokens + 1 for first in firsts], int)[run],
        policies=policies,
        sequences=sequences,
        budgets=budgets,
    )


def _batching_runs(deployments: Sequence[Deployment]) -> tuple[list[Deployment], Indices]:
    """The first of each run of consecutive deployments that differ only in batching, and the number of the run of each.

    A search extends stacks one slot at a time, so that consecutive ones share the records of the slots that were not changed.
    """
    firsts: list[Deployment] = []
    runs = []
    for deployment in deployments:
        if not firsts or not _differ_only_in_batching(firsts[-1], deployment):
            firsts.append(deployment)
        runs.append(len(firsts) - 1)
    return firsts, np.array(runs, int)


def _differ_only_in_batching(first: Deployment, second: Deployment) -> bool:
    """Whether all other records are the same objects. Equal but different objects only start another run, which costs time."""
    return (
        first.decoding is second.decoding
        and first.kv is second.kv
        and first.weights is second.weights
        and first.attention is second.attention
        and first.parallel is second.parallel
    )


def _cost_keys(deployment: Deployment, estimator: Estimator) -> tuple[Hashable, ...]:
    """The records that prices depend on. The last one is what the memory of a cache depends on, the cache before it what step times do."""
    attention, cache = estimator.cost_equivalent_attention(deployment), cost_equivalent_cache(deployment.kv)
    memory = (deployment.kv, deployment.attention.window)  # a paged cache evicts the blocks outside the window of the attention
    return deployment.weights, attention, cache, deployment.decoding, deployment.parallel, memory


def _batching_numbers(batching: Batching, default_budget: int) -> tuple[int, int, int]:
    return _policy(batching), batching.max_sequences, batching.token_budget or default_budget


def _policy(batching: Batching) -> int:
    if batching.policy != BatchPolicy.CONTINUOUS:
        return STATIC
    return CHUNKED if batching.chunked else WHOLE


def unique_values(values: Iterable[HashableT]) -> tuple[list[HashableT], Indices]:
    """The distinct values in order of first appearance, and the index of each value among them."""
    index_of: dict[HashableT, int] = {}
    indices = [index_of.setdefault(value, len(index_of)) for value in values]
    return list(index_of), np.array(indices, int)


def unique_rows(*columns: Indices) -> tuple[Indices, Indices]:
    """The index at which each distinct row of the columns appears first, and for each row the number of its distinct row."""
    keys = columns[0]
    for column in columns[1:]:
        keys = keys * (column.max(initial=0) + 1) + column
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first, inverse

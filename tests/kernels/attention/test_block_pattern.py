"""Block lists and the token-level mask agree, and random blocks depend on nothing but the pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from advisor.kernels.attention.block_pattern import BlockPattern


PATTERNS: tuple[dict[str, Any], ...] = (
    {"block": 16},
    {"block": 16, "window": 1},
    {"block": 16, "window": 40, "first": 3},
    {"block": 16, "window": 33, "first": 20, "global_tokens": (5, 70, 71, 500)},
    {"block": 16, "window": 17, "random_blocks": 2, "seed": 3, "first": 1},
    {"block": 32, "window": 9, "random_blocks": 1, "global_tokens": (0, 64)},
    {"block": 64, "window": 10**9, "first": 7},
)
"""Fields of a `BlockPattern`."""
LENGTHS = ((200, 200), (37, 200), (1, 177), (160, 160), (3, 3), (16, 32), (0, 5))


def sees(pattern: BlockPattern, query: int, key: int) -> bool:
    """The definition, one pair at a time; `drawn` for the random blocks."""
    if key > query:
        return False
    if pattern.window is None or key > query - pattern.window or key < pattern.first:
        return True
    if key in pattern.global_tokens or query in pattern.global_tokens:
        return True
    row = query // pattern.block
    return bool(pattern.random_mask(row, row + 1)[0, key // pattern.block])


@pytest.mark.parametrize("fields", PATTERNS, ids=str)
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_lists_hold_exactly_the_blocks_that_are_seen(fields: dict[str, Any], queries: int, keys: int) -> None:
    import torch

    from advisor.kernels.attention.block_pattern import BlockPattern, block_lists

    pattern = BlockPattern(**fields)
    lists = block_lists(pattern, queries, keys)
    first, size = keys - queries, pattern.block
    mask = pattern.allows(torch.arange(first, keys).unsqueeze(1), torch.arange(keys).unsqueeze(0))
    starts, full = lists.starts.tolist(), lists.full.tolist()
    listed = 0
    for row in range(len(full)):
        low = (lists.first_block + row) * size - first
        part = mask[max(low, 0) : low + size]
        blocks = lists.blocks[starts[row] : starts[row + 1]].tolist()
        listed += len(blocks)
        assert set(blocks) == {block for block in range(-(-keys // size)) if part[:, block * size : block * size + size].any()}
        for block in blocks[: full[row]]:
            assert part[:, block * size : block * size + size].all()
            assert (block + 1) * size <= keys
    assert listed == lists.blocks.numel()


@pytest.mark.parametrize("fields", PATTERNS[:6], ids=str)
def test_allows_is_the_definition(fields: dict[str, Any]) -> None:
    import torch

    from advisor.kernels.attention.block_pattern import BlockPattern

    pattern = BlockPattern(**fields)
    positions = torch.arange(80)
    expected = torch.tensor([[sees(pattern, query, key) for key in range(80)] for query in range(80)])
    assert torch.equal(pattern.allows(positions.unsqueeze(1), positions.unsqueeze(0)), expected)
    assert torch.equal(pattern.allows(positions[70:, None], positions.unsqueeze(0)), expected[70:])
    assert torch.equal(pattern.allows(positions.unsqueeze(1), positions.unsqueeze(0), 80), expected)


def test_allows_with_a_length_works_under_vmap() -> None:
    import torch

    from advisor.kernels.attention.block_pattern import BlockPattern

    pattern = BlockPattern(**PATTERNS[4])
    positions = torch.arange(100)
    mapped = torch.vmap(torch.vmap(lambda query, key: pattern.allows(query, key, 100), (None, 0)), (0, None))(positions, positions)
    assert torch.equal(mapped, pattern.allows(positions.unsqueeze(1), positions.unsqueeze(0)))


def test_as_many_blocks_as_requested_are_drawn_before_the_window() -> None:
    from advisor.kernels.attention.block_pattern import BlockPattern

    pattern = BlockPattern(window=100, first=64, random_blocks=3, seed=11)
    drawn = pattern.random_mask(0, 40)
    for row in range(40):
        candidates = max(0, max(0, row * 64 - 99) // 64 - 1)
        assert int(drawn[row].sum()) == min(3, candidates)
        assert not drawn[row, :1].any()
        assert not drawn[row, 1 + candidates :].any()


def test_drawn_blocks_do_not_depend_on_the_range_that_is_requested() -> None:
    import torch

    from advisor.kernels.attention.block_pattern import BlockPattern

    pattern = BlockPattern(window=64, random_blocks=2, seed=5)
    whole = pattern.random_mask(0, 600)
    assert torch.equal(whole[300:310, :310], pattern.random_mask(300, 310))
    assert not torch.equal(whole, BlockPattern(window=64, random_blocks=2, seed=6).random_mask(0, 600))
    # each of the 400 last rows draws 2 of about 400 blocks: all are drawn from, none far more than others
    counts = whole[200:, :150].sum(0)
    assert 0 < int(counts.float().mean()) < int(counts.max()) < 15


def test_draws_are_the_same_in_every_version() -> None:
    from advisor.kernels.attention.block_pattern import BlockPattern

    drawn = BlockPattern(window=64, random_blocks=2, seed=1).random_mask(50, 53)
    assert [row.nonzero().flatten().tolist() for row in drawn] == [[4, 24], [16, 41], [21, 43]]


def test_density_is_the_share_of_the_dense_blocks() -> None:
    from advisor.kernels.attention.block_pattern import BlockPattern

    assert BlockPattern().density(1000) == 1.0
    assert BlockPattern(window=64).density(640) == pytest.approx((10 + 9) / 55)
    assert BlockPattern(window=64).density(640, 64) == pytest.approx(2 / 10)
    assert BlockPattern().density(0) == 1.0


@pytest.mark.parametrize(("fields", "what"), [({"window": 0}, "window"), ({"block": 48}, "16, 32, 64, 128"), ({"first": -1}, "from 0")])
def test_sizes_that_mean_nothing_are_refused(fields: dict[str, Any], what: str) -> None:
    from advisor.kernels.attention.block_pattern import BlockPattern

    with pytest.raises(ValueError, match=what):
        BlockPattern(**fields)


def test_more_queries_than_keys_are_refused() -> None:
    from advisor.kernels.attention.block_pattern import BlockPattern, block_lists

    with pytest.raises(ValueError, match="got 5 queries and 4 keys"):
        block_lists(BlockPattern(), 5, 4)

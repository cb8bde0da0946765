"""Interpolation of measured tables: exact where measured, sensible between, bounded outside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.profiles.interpolate import AttentionTable, GemmTable
from advisor.profiles.machine import AttentionPoint, GemmPoint

BANDWIDTH, PEAK, FLOOR_S = 2e10, 2e11, 4e-6
SIZES, ROWS, SETS = (128, 512, 2048), (1, 4, 16, 64, 256), (8e6, 1.28e8)


def ideal_s(m: int, n: int, k: int, slow: float = 1.0) -> float:
    """A machine that is exactly a roofline with a launch cost."""
    return FLOOR_S + slow * max(2.0 * m * n * k / PEAK, 2.0 * (n * k + m * (n + k)) / BANDWIDTH)


def gemm_grid() -> list[GemmPoint]:
    return [
        GemmPoint(
            format="bf16", m=m, n=n, k=n, working_set_bytes=int(working_set), seconds=ideal_s(m, n, n, 2.0 if working_set > 3e7 else 1.0)
        )
        for n in SIZES
        for m in ROWS
        for working_set in SETS
    ]


def attention_grid() -> list[AttentionPoint]:
    return [
        AttentionPoint(
            implementation="sdpa",
            layout="paged",
            kv_format="bf16",
            phase="decode",
            batch=batch,
            q_tokens=1,
            kv_tokens=kv,
            q_heads=8,
            kv_heads=4,
            head_dim=64,
            seconds=2e-5 + 1e-5 * batch + batch * kv * 4 * 64 * 4 / BANDWIDTH,
        )
        for batch in (1, 8)
        for kv in (64, 512, 4096)
    ]


def test_a_measured_product_returns_its_own_time() -> None:
    table = GemmTable(gemm_grid())
    for point in gemm_grid():
        seconds = table.seconds("bf16", point.m, point.n, point.k, point.working_set_bytes)
        assert seconds == pytest.approx(point.seconds, rel=1e-9), point


def test_a_product_between_points_is_within_a_quarter_of_the_truth() -> None:
    table = GemmTable(gemm_grid())
    for m in (2, 8, 32, 128):
        for n in (256, 1024, 1536):
            seconds, truth = table.seconds("bf16", m, n, n, 8e6), ideal_s(m, n, n)
            assert seconds == pytest.approx(truth, rel=0.25), (m, n, seconds, truth)


def test_beyond_the_last_point_time_grows_with_the_work() -> None:
    table = GemmTable(gemm_grid())
    edge, beyond = table.seconds("bf16", 256, 2048, 2048, 1.28e8), table.seconds("bf16", 2560, 2048, 2048, 1.28e8)
    assert beyond == pytest.approx(10 * edge, rel=0.05)


def test_nothing_is_faster_than_the_fastest_point() -> None:
    table = GemmTable(gemm_grid())
    assert table.seconds("bf16", 1, 8, 8, 1e5) == pytest.approx(min(point.seconds for point in gemm_grid()))


def test_a_larger_working_set_is_slower_and_between_lies_between() -> None:
    table = GemmTable(gemm_grid())
    fast, middle, slow = (table.seconds("bf16", 1, 2048, 2048, working_set) for working_set in (8e6, 3.2e7, 1.28e8))
    assert fast < middle < slow


def test_missing_points_do_not_stop_an_answer() -> None:
    points = [point for index, point in enumerate(gemm_grid()) if index % 3]
    table = GemmTable(points)
    seconds = table.seconds("bf16", 4, 512, 512, 8e6)
    assert seconds == pytest.approx(ideal_s(4, 512, 512), rel=0.5)


def test_a_format_that_was_not_measured_is_a_key_error() -> None:
    table = GemmTable(gemm_grid())
    assert table.formats == {"bf16"}
    with pytest.raises(KeyError):
        table.seconds("int8", 1, 128, 128, 8e6)


@given(m=st.integers(1, 4096), n=st.integers(16, 16384), k=st.integers(16, 16384), working_set=st.floats(1e5, 1e11))
def test_every_shape_has_a_positive_finite_time(m: int, n: int, k: int, working_set: float) -> None:
    assert 0 < GemmTable(gemm_grid()).seconds("bf16", m, n, k, working_set) < 1e4


def test_attention_is_exact_at_points_and_ordered_between() -> None:
    table = AttentionTable(attention_grid())

    def seconds(batch: int, kv: int) -> float:
        return table.seconds("sdpa", "paged", "bf16", "decode", batch=batch, q_tokens=1, kv_tokens=kv, q_heads=8, kv_heads=4, head_dim=64)

    for point in attention_grid():
        assert seconds(point.batch, point.kv_tokens) == pytest.approx(point.seconds, rel=1e-9)
    times = [seconds(4, kv) for kv in (64, 100, 512, 1000, 4096, 8192)]
    assert times == sorted(times)
    assert table.variants == {("sdpa", "paged", "bf16", "decode")}


def test_a_wider_layer_than_measured_costs_more() -> None:
    table = AttentionTable(attention_grid())
    narrow, wide = (
        table.seconds("sdpa", "paged", "bf16", "decode", batch=8, q_tokens=1, kv_tokens=4096, q_heads=q, kv_heads=kv, head_dim=64)
        for q, kv in ((8, 4), (16, 8))
    )
    assert wide == pytest.approx(2 * narrow, rel=0.01)

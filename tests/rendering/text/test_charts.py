"""The plot is a pure function of points and room."""

import math

from hypothesis import given
from hypothesis import strategies as st

from advisor.rendering.text.charts import LEAST_HEIGHT, LEAST_WIDTH, Axes, Point, scatter

AXES = Axes(x_name="TPOT ms", y_name="tok/s", x_limit=20.0, y_limit=800.0)
numbers = st.one_of(st.floats(1e-6, 1e12), st.sampled_from([0.0, -1.0, math.nan, math.inf]))
points = st.lists(st.builds(Point, numbers, numbers, st.sampled_from("ox"), st.integers(0, 3)), max_size=30)


@given(points, st.integers(0, 200), st.integers(0, 60))
def test_a_chart_never_exceeds_its_size(points: list[Point], width: int, height: int) -> None:
    lines = scatter(points, AXES, width, height)
    assert len(lines) <= max(height, 1)
    assert all(len(line) <= width for line in lines)


def test_logarithms_put_equal_factors_at_equal_distances() -> None:
    lines = scatter([Point(1, 1, "a"), Point(10, 10, "b"), Point(100, 100, "c")], Axes(x_name="x", y_name="y"), 60, 20)
    at = {glyph: (row, line.index(glyph)) for row, line in enumerate(lines) for glyph in "abc" if glyph in line}
    (row_a, a), (row_b, b), (row_c, c) = at["a"], at["b"], at["c"]
    assert abs((b - a) - (c - b)) <= 1
    assert abs((row_a - row_b) - (row_b - row_c)) <= 1


def test_a_higher_rank_is_drawn_over_a_lower_one() -> None:
    lines = scatter([Point(5, 5, "s", 4), Point(5, 5, "o", 2), Point(50, 50, "o", 2)], Axes(x_name="x", y_name="y"), 40, 12)
    assert sum(line.count("s") for line in lines) == 1


def test_a_chart_without_space_or_points_says_so() -> None:
    assert "Too small" in scatter([Point(1, 1, "a")], AXES, LEAST_WIDTH - 1, LEAST_HEIGHT)[0]
    assert scatter([], AXES, 80, 20) == ["No plan has both TPOT ms and tok/s."]

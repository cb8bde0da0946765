"""What constants of engines contribute to published times."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from advisor.profiles.engines import load_engine
from advisor.validation.cases import PublishedCase, read_cases
from advisor.validation.predict import compare_case, predict
from tools.cross_validate import held_out, model_of, source_of, summary
from tools.engine_terms import NAMES, Row, constants_of, rows_of
from tools.fit_engines import HIGHEST, LOWEST, TYPICAL, fit, fit_all

CASES = Path(__file__).parents[2] / "benchmarks" / "published" / "cases.csv"


def cut(step: int, engines: tuple[str, ...] = ("vllm", "sglang", "tensorrt-llm")) -> list[PublishedCase]:
    cases = [
        case
        for case in read_cases(CASES)
        if case.configuration is not None and case.configuration.engine in engines and case.precision_stated
    ]
    return cases[::step]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return rows_of(cut(220))


def test_terms_times_constants_are_what_the_estimator_predicts(rows: list[Row]) -> None:
    off = []
    for row in rows:
        setting = row.case.configuration
        assert setting is not None
        predicted = compare_case(row.case, predict(setting)).predicted
        assert predicted is not None
        seconds = float(row.terms @ constants_of(load_engine(setting.engine).gpu))
        mine = 1 / seconds if row.rate else 1e3 * seconds
        mine /= setting.devices if row.case.metric == "output_tok_s_per_gpu" else 1
        off.append(abs(mine / predicted.value - 1))
    assert len(off) > 15
    # A pipeline's bubbles, the device's idle time and rounding of batches are not linear in the constants.
    assert np.median(off) < 1e-3
    assert np.mean(np.array(off) < 0.02) > 0.9


def test_a_fit_finds_constants_that_made_its_rows(rows: list[Row]) -> None:
    rng = np.random.default_rng(3)
    truth = np.clip(TYPICAL * rng.uniform(0.8, 1.25, len(NAMES)), LOWEST, HIGHEST)
    made = [Row(row.case, row.terms, float(row.terms @ truth)) for row in rows]
    fitted = fit(made, TYPICAL, 1e-6)
    errors = [abs(float(row.terms @ fitted) / row.measured_s - 1) for row in made]
    before = [abs(float(row.terms @ TYPICAL) / row.measured_s - 1) for row in made]
    assert np.median(errors) < 0.1 * np.median(before)


def test_constants_stay_within_their_bounds(rows: list[Row]) -> None:
    for constants in fit_all(rows).values():
        assert (constants >= LOWEST * 0.999).all()
        assert (constants <= HIGHEST * 1.001).all()


def test_what_is_held_out_does_not_reach_its_own_prediction(rows: list[Row]) -> None:
    part = Counter(source_of(row.case) for row in rows).most_common(1)[0][0]
    spoiled = [Row(row.case, row.terms, 3 * row.measured_s) if source_of(row.case) == part else row for row in rows]
    honest = {
        prediction.row.case.case_id: prediction.predicted_s
        for prediction in held_out(rows, source_of, 2)
        if source_of(prediction.row.case) == part
    }
    fooled = {
        prediction.row.case.case_id: prediction.predicted_s
        for prediction in held_out(spoiled, source_of, 2)
        if source_of(prediction.row.case) == part
    }
    assert honest == fooled


def test_one_architecture_under_two_names_is_one_model() -> None:
    by_name = {case.model: case for case in cut(1)}
    assert model_of(by_name["deepseek-ai/DeepSeek-R1"]) == model_of(by_name["deepseek-ai/DeepSeek-V3"])
    assert model_of(by_name["deepseek-ai/DeepSeek-V3"]) != model_of(by_name["zai-org/GLM-5"])


def test_the_summary_counts_every_row_once(rows: list[Row]) -> None:
    predictions = held_out(rows, model_of, 2)
    lines = summary(predictions, "model")
    assert sum(int(str(line["rows"])) for line in lines) == sum(
        not (prediction.row.case.metric == "ttft_ms" and prediction.row.measured_s > 8) for prediction in predictions
    )

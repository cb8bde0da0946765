"""JSON of foreign files is read within bounds."""

import math

import pytest

from advisor.profiles.json_text import parse_json


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 65 + "]" * 65, "nested too deeply"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ' * 70 + "1" + "}" * 70, "nested too deeply"),
        ('{"hidden_size": 1' + "0" * 300 + "}", "`hidden_size` is a whole number beyond 64 bits"),
        ('{"sizes": [1, -9223372036854775809]}', "`sizes` is a whole number beyond 64 bits"),
        ("9" * 5000, "thousands of digits"),
        ('{"model_type": "\\ud800"}', "`model_type` holds half of a surrogate pair"),
        ('{"\\udfff": 1}', "a key holds half of a surrogate pair"),
        ("", "Expecting value"),
        ('{"a": 1,}', "Expecting property name"),
    ],
)
def test_what_is_out_of_bounds_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_json(text)


def test_what_configs_contain_is_read() -> None:
    assert parse_json('{"time_step_limit": [0.0, Infinity], "a": "ü\\ud83d\\ude00", "n": 9223372036854775807}') == {
        "time_step_limit": [0.0, math.inf],
        "a": "ü😀",
        "n": 2**63 - 1,
    }
    assert parse_json("[" * 63 + "]" * 63)

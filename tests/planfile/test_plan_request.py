"""The request of a plan file, also after its limits were edited."""

import pytest

from advisor.planfile.file import request_of
from advisor.planfile.store import read_plan
from advisor.profiles.errors import AdvisorError, ExitCode
from tests.paths import ROOT

PLAN = read_plan(ROOT / "tests/golden/plan.yaml")


@pytest.mark.parametrize(
    ("edit", "said"),
    [({"concurrency": None}, "a closed loop needs concurrency"), ({"context_tokens": 400, "prompt_tokens": None}, "prompt_tokens")],
    ids=["no load", "no room for a prompt"],
)
def test_contradicting_limits_after_an_edit_are_a_field_error(edit: dict[str, object], said: str) -> None:
    edited = PLAN.model_copy(update={"limits": PLAN.limits.model_copy(update=edit)})
    with pytest.raises(AdvisorError, match=said) as caught:
        request_of(edited)
    assert (caught.value.code, caught.value.exit_code) == ("plan-field", ExitCode.USAGE)

"""Every row of the table of limits reaches each place that is made from it."""

import pytest
from pydantic import ValidationError

from advisor.cli.estimate import command as estimate_command
from advisor.cli.plan import command as plan_command
from advisor.planfile.sections import PlanLimits
from advisor.profiles.request import Limits
from advisor.quantities.limits import LIMIT_OF, LIMITS, LimitInfo
from advisor.tui.form.fields import BY_NAME, OF_LIMIT


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_a_limit_is_an_option_a_form_field_a_field_of_the_record_and_a_key_of_the_plan_file(limit: LimitInfo) -> None:
    assert [param.name for param in plan_command.params if limit.flag in param.opts] == [limit.parameter]
    assert BY_NAME[OF_LIMIT[limit.name]].flag == limit.flag
    assert Limits(**{limit.name: 5.0}).bound(limit.name) == Limits(**{limit.name: 5.0}).on(limit.metric.name) == 5.0
    assert PlanLimits.model_validate({"context_tokens": 8, "output_tokens": 4, limit.file_key: 5.0}).bound(limit.name) == 5.0
    assert LIMIT_OF[limit.metric.name] is limit


def test_an_estimate_takes_the_limits_that_count_in_the_goodput_and_no_other() -> None:
    flags = {flag for param in estimate_command.params for flag in param.opts}
    assert {limit.name for limit in LIMITS.values() if limit.flag in flags and not limit.is_load} == {
        limit.name for limit in LIMITS.values() if limit.in_goodput
    }


def test_a_limit_that_the_table_lacks_is_an_error_where_it_is_set_and_where_it_is_read() -> None:
    with pytest.raises(ValidationError, match="ttft_ms_p59"):
        Limits(ttft_ms_p59=5.0)
    for record in (Limits(), PlanLimits(context_tokens=8, output_tokens=4)):
        with pytest.raises(KeyError, match="ttft_ms_p59"):
            record.bound("ttft_ms_p59")

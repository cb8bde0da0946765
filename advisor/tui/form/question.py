"""The question that the form's values ask."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.planning.loads import load_conflict
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.quantities.limits import LIMITS
from advisor.tui.form.fields import BY_NAME, PREFERENCES, USE_CASES
from advisor.tui.form.values import FormValues

if TYPE_CHECKING:
    from advisor.planning.question import PlanQuestion


def question_of(values: FormValues) -> "PlanQuestion":
    """The question of `advisor plan` for these values; it never uses the network.

    Raises `AdvisorError`: `bad-value` for a field that cannot be read, `usage` for fields that exclude each other, `model-missing`
    and `bad-profile-name` as the command line does, `bad-trace` for a trace that cannot be read.
    """
    from advisor.cli.profile_choice import read_model_and_profile
    from advisor.planning.question import PlanQuestion  # loads the planner's types, which the first frame does not wait for
    from advisor.profiles.request import Limits
    from advisor.profiles.trace import read_trace

    numbers = {name: _read(name, values.text(name)) for name in BY_NAME}
    _check_load(values)
    target = read_model_and_profile(values.text("model") or None, values.text("profile") or "auto")
    trace, prefer = values.text("load_trace"), values.text("prefer")
    return PlanQuestion(
        model=target.model,
        hardware=values.text("hardware") or None,
        devices=_whole(numbers, "devices") or 1,
        profile=target.profile,
        limits=Limits(**{limit.name: numbers[limit.parameter] for limit in LIMITS.values() if not limit.is_load}),
        context_tokens=_whole(numbers, "context"),
        prompt_tokens=_whole(numbers, "prompt_tokens"),
        output_tokens=_whole(numbers, "output_tokens"),
        shared_prefix_tokens=_whole(numbers, "shared_prefix"),
        concurrency=_whole(numbers, "concurrency"),
        request_rate_per_s=numbers["request_rate"],
        burst=_whole(numbers, "burst"),
        trace=read_trace(Path(trace)) if trace else None,
        use_case=use_case if (use_case := values.text("use_case")) in USE_CASES else USE_CASES[0],
        prefer=prefer if prefer in PREFERENCES else PREFERENCES[0],
        require=values.require,
        forbid=values.forbid,
        offline=True,
    )


def _read(name: str, text: str) -> float | int | None:
    field = BY_NAME[name]
    try:
        return field.read(text)
    except ValueError as error:
        message = f"{field.short_label} {error}"
        raise AdvisorError(
            "bad-value", message, exit_code=ExitCode.USAGE, field=field.question_field, action=ErrorAction.CORRECT
        ) from error


def _whole(numbers: Mapping[str, float | int | None], name: str) -> int | None:
    number = numbers[name]
    return None if number is None else int(number)


def _check_load(values: FormValues) -> None:
    """Raise `AdvisorError` `usage` for two loads, and for lengths with a trace."""
    conflict = load_conflict([name for name in BY_NAME if values.text(name)])
    if conflict is None:
        return
    fields = [BY_NAME[name] for name in conflict.parameters]
    labels = " and ".join(field.short_label for field in fields)
    raise AdvisorError(
        "usage",
        f"a trace has the lengths of each request: {labels} cannot be given with it"
        if conflict.with_trace
        else f"{labels} exclude each other",
        exit_code=ExitCode.USAGE,
        field=fields[0].question_field,
        action=ErrorAction.DROP if conflict.with_trace else ErrorAction.KEEP_ONE,
    )

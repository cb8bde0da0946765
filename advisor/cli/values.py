"""Parameter types of the command line: quantities with units, with errors that name the flag and an example."""

import click

from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.quantities.limits import LIMITS
from advisor.quantities.parsing import Quantity

QUESTION_FIELDS = {
    "power_limit": "power_limit_w",
    "model_option": "model",
    "quality_drop": "quality_loss_pct",
    "context": "context_tokens",
    "shared_prefix": "shared_prefix_tokens",
    "load_trace": "trace",
    "techniques": "with",
    **{limit.parameter: limit.name for limit in LIMITS.values()},
}
"""Parameters of the commands that are called otherwise than the field that they fill."""


class QuantityType(click.ParamType[float | int]):
    """A number in one of the units that its quantity knows."""

    def __init__(self, quantity: Quantity) -> None:
        self.quantity = quantity
        self.name = "N" if quantity.whole else "X"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | int:
        """Read what was typed. Raises `AdvisorError` `bad-value`."""
        if isinstance(value, int | float):
            return value
        flag = flag_of(param)
        try:
            number = self.quantity.read(str(value))
        except ValueError as error:
            required = param is not None and param.required
            alternative = "" if required else f", or leave {flag} out"
            raise AdvisorError(
                "bad-value",
                f"{flag} {error}",
                exit_code=ExitCode.USAGE,
                help=(f"write {flag} {self.quantity.example}{alternative}",),
                field=field_of(param),
                action=ErrorAction.CORRECT,
            ) from error
        return int(number) if self.quantity.whole else number


def field_of(param: click.Parameter | None) -> str | None:
    """The field of the question that an option or argument fills; `None` where click names none."""
    return None if param is None or param.name is None else question_field(param.name)


def question_field(name: str) -> str:
    """The field of a question or of its `Limits` that a parameter of a command fills; the parameter's name where it fills none."""
    return QUESTION_FIELDS.get(name, name)


def flag_of(param: click.Parameter | None) -> str:
    """The long spelling of an option, or an argument's name."""
    if param is None:
        return "the value"
    return max(param.opts, key=len) if isinstance(param, click.Option) else (param.name or "").upper()

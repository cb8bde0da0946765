"""Options of limits, one for each row of the table of limits."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import click

from advisor.cli.values import QuantityType
from advisor.quantities.limits import LIMITS, LimitInfo


def with_limits(included: Callable[[LimitInfo], bool] = lambda limit: True, *, note: str = "") -> Callable[[Callable[..., Any]], Any]:
    """Add an option for each limit that is not part of the load; the command receives `limits: Limits`.

    `note` is added to each help text.
    """

    def decorate(command: Callable[..., Any]) -> Any:
        @functools.wraps(command)
        def wrapped(*args: Any, **options: Any) -> Any:
            return command(*args, **read_limits(options))

        for limit in reversed([limit for limit in LIMITS.values() if included(limit) and not limit.is_load]):
            if limit.alias is not None:
                wrapped = click.option(limit.alias, type=QuantityType(limit.quantity), hidden=True)(wrapped)
            wrapped = click.option(limit.flag, type=QuantityType(limit.quantity), help=f"{limit.help}{note}.")(wrapped)
        return wrapped

    return decorate


def read_limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options with those of limits replaced by `limits: Limits`."""
    from advisor.profiles.request import Limits  # loads pydantic: not needed for --help

    rest, bounds = dict(options), {}
    for limit in LIMITS.values():
        if not limit.is_load:
            alias = rest.pop(_parameter(limit.alias), None) if limit.alias else None
            given = rest.pop(limit.parameter, None)
            bounds[limit.name] = alias if given is None else given
    return {**rest, "limits": Limits(**bounds)}


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")

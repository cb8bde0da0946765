"""The `advisor plan` line that asks a question, quoted for a shell."""

import shlex
from collections.abc import Iterable, Iterator, Mapping

Options = Mapping[str, float | str | None]
"""By flag, the value of an option; `None` leaves it out."""


def plan_command(model: str, options: Options, *, require: Iterable[str], forbid: Iterable[str]) -> str:
    """The line with every option that has a value, quoted for a shell."""
    words = [word for pair in plan_options(options, require=require, forbid=forbid) for word in pair]
    return shlex.join(("advisor", "plan", model, *words, "-o", "plan.yaml"))


def plan_options(options: Options, *, require: Iterable[str], forbid: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Flags of `advisor plan` with their values as text, in order; required and forbidden techniques last."""
    for flag, value in options.items():
        if value is not None:
            yield flag, f"{value:g}" if isinstance(value, float) else str(value)
    yield from (("--require", name) for name in require)
    yield from (("--forbid", name) for name in forbid)

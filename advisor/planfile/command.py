"""The `advisor plan` line that asks a question, quoted for a shell."""

import shlex
from collections.abc import Iterable, Mapping


def plan_command(model: str, options: Mapping[str, float | str | None], *, require: Iterable[str], forbid: Iterable[str]) -> str:
    """The line with every option that has a value, quoted for a shell."""
    words = ["advisor", "plan", model]
    for option, value in options.items():
        if value is not None:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    words += [word for name in require for word in ("--require", name)]
    words += [word for name in forbid for word in ("--forbid", name)]
    return shlex.join((*words, "-o", "plan.yaml"))

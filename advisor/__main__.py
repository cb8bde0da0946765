"""Entry point of `python -m advisor` and of the `advisor` script: the command line, and the session where no command is given."""

import sys
from collections.abc import Sequence

from advisor.cli.main import main as run_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; without a command, the session. Gives back the exit code."""
    return run_commands(arguments, open_interface=_open_session)


def _open_session(*, ascii: bool, light: bool, resume: bool) -> int:
    # Deferred: no command needs it.
    from advisor.tui.launch import open_interface

    return open_interface(ascii=ascii, light=light, resume=resume)


if __name__ == "__main__":
    sys.exit(main())

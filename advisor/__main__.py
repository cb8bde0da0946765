"""Entry point of `python -m advisor` and of the `advisor` script: the command line, or the terminal interface if no command is given."""

import sys
from collections.abc import Sequence

from advisor.cli.main import main as run_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, or the terminal interface if it has no command; returns the exit code. `arguments` default to `sys.argv`."""
    return run_commands(arguments, open_interface=_open_terminal_interface)


def _open_terminal_interface(*, ascii: bool, light: bool, resume: bool) -> int:
    from advisor.tui.launch import open_interface  # loads Textual, which no command needs

    return open_interface(ascii=ascii, light=light, resume=resume)


if __name__ == "__main__":
    sys.exit(main())

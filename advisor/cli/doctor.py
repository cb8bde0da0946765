"""`advisor doctor`: what was detected and how, for bug reports."""

import click

from advisor.cli.options import Output, with_output
from advisor.profiles.errors import ExitCode


@click.command("doctor", short_help="Report what was detected and how, for bug reports.")
@with_output
def command(output: Output) -> ExitCode:
    """Report what was detected and how, versions, paths and profiles. User names and home paths are taken out."""
    from advisor.doctor import examine
    from advisor.views.tree import tree_text

    report = examine()
    output.emit(lambda: report, lambda: tree_text(report, **output.look))
    return ExitCode.OK

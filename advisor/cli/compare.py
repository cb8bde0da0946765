"""`advisor compare`: a finished run against its predictions."""

from pathlib import Path

import click

from advisor.cli.options import Output, with_output
from advisor.cli.outcome import conclude
from advisor.profiles.errors import ExitCode


@click.command("compare", short_help="Compare a finished run with its predictions.")
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN.JSON")
@click.option("--strict", is_flag=True, help="Exit code 5 also if a measured value is outside its predicted range.")
@with_output
def command(output: Output, run: Path, strict: bool) -> ExitCode:
    """Compare predicted and measured values, rung by rung, and what each technique changed.

    RUN.JSON is what `advisor apply` wrote, or its folder. Exit code 5: a measured value misses a limit.
    """
    from advisor.feedback.compare import compare
    from advisor.profiles.run import read_run
    from advisor.rendering.text.comparison import comparison_dict, comparison_text

    comparison = compare(read_run(run))
    output.emit(lambda: comparison_dict(comparison), lambda: comparison_text(comparison, **output.look))
    return conclude(comparison, strict=strict)

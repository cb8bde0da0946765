"""`advisor validate`: predict published measurements and report the errors."""

from pathlib import Path

import click

from advisor.cli.options import Output, with_output
from advisor.profiles.errors import ExitCode


@click.command("validate", short_help="Predict published measurements and report the errors.")
@click.argument("cases", type=click.Path(path_type=Path), metavar="CASES.CSV")
@click.option("--rows", type=click.Path(path_type=Path), metavar="OUT.CSV", help="Write one line per case.")
@with_output
def command(output: Output, cases: Path, rows: Path | None) -> ExitCode:
    """Predict every row of CASES.CSV and report the errors by metric, engine and hardware."""
    from advisor.progress import ProgressLines
    from advisor.service import validate

    with ProgressLines(quiet=output.quiet) as progress:
        report = validate(cases, rows, progress)
    output.emit(report.as_dict, lambda: report.text(**output.look))
    if rows is not None:
        output.note(f"rows: {rows}")
    return ExitCode.OK

"""`advisor validate`: predict published measurements and report the errors."""

from pathlib import Path

import click

from advisor.cli.options import Output, with_output
from advisor.profiles.errors import ExitCode


@click.command("validate", short_help="Predict published measurements and report the errors.")
@click.argument("cases", type=click.Path(path_type=Path), metavar="CASES.CSV")
@click.option("--rows", type=click.Path(path_type=Path), metavar="OUT.CSV", help="Write one line per case.")
@click.option("--html", type=click.Path(path_type=Path), metavar="OUT.HTML", help="Write a page with plots and tables.")
@with_output
def command(output: Output, cases: Path, rows: Path | None, html: Path | None) -> ExitCode:
    """Predict every row of CASES.CSV and report the errors by metric, engine, hardware, model kind, basis and source."""
    from advisor.cli.progress import ProgressLines
    from advisor.rendering.text.style import Look
    from advisor.rendering.text.validation import validation_text
    from advisor.service import validate

    with ProgressLines(quiet=output.quiet) as progress:
        report = validate(cases, rows, progress, html=html)
    output.emit(report.as_dict, lambda: validation_text(report, Look(**output.look)))
    for name, path in (("rows", rows), ("page", html)):
        if path is not None:
            output.note(f"{name}: {path}")
    return ExitCode.OK

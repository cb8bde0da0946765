"""`advisor demo`: plan, apply and compare the shipped model on this machine."""

import sys
from pathlib import Path

import click

from advisor.cli.options import Output, with_output
from advisor.cli.outcome import conclude
from advisor.cli.width import text_width
from advisor.profiles.errors import ExitCode


@click.command("demo", short_help="Plan, apply and compare the shipped model on this machine.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", default=Path("demo-out"), show_default=True, help="Result folder.")
@click.option("--ladder", is_flag=True, help="Measure one technique of each slot, added one by one; takes several times as long.")
@click.option("--quick", is_flag=True, help="Fewer requests and a shorter profile; wider ranges.")
@with_output
def command(output: Output, out: Path, ladder: bool, quick: bool) -> ExitCode:
    """Measure this machine, plan the shipped model for it, and measure the best plan against the unmodified model."""
    # Imported here because `--help` does not need it.
    from advisor.cli.demo_run import run_demo
    from advisor.cli.progress import ProgressLines
    from advisor.feedback.compare import compare
    from advisor.rendering.text.advice import advice_text
    from advisor.rendering.text.comparison import comparison_dict, comparison_text

    with ProgressLines(quiet=output.quiet) as progress:
        run = run_demo(
            out, progress, lambda advice: progress(advice_text(advice, width=text_width(sys.stderr))), quick=quick, ladder=ladder
        )
    comparison = compare(run)
    output.emit(lambda: comparison_dict(comparison), lambda: comparison_text(comparison, **output.look))
    output.note(f"run:    {out / 'run.json'}\nreport: {out / 'report.html'}")
    return conclude(comparison)

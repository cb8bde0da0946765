"""`advisor apply`: run a plan, technique by technique, and measure it."""

from pathlib import Path

import click

from advisor.cli.options import Output, with_output
from advisor.cli.outcome import conclude
from advisor.profiles.errors import ExitCode
from advisor.running.folders import new_run_folder


@click.command("apply", short_help="Run a plan, technique by technique, and measure it.")
@click.argument("plan", type=click.Path(path_type=Path), metavar="PLAN.YAML")
@click.option("--model", type=click.Path(path_type=Path), metavar="DIR", help="Folder with the weights; default: the plan's.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the results; a stopped run in it is resumed.")
@click.option(
    "--ladder/--no-ladder", default=True, show_default=True, help="Add one technique at a time; else the baseline and the whole plan."
)
@click.option("--accept-edits", is_flag=True, help="Run a plan whose limits or decision were edited by hand.")
@click.option("--strict", is_flag=True, help="Exit code 5 also if a measured value is outside its predicted range.")
@with_output
def command(output: Output, plan: Path, model: Path | None, out: Path | None, ladder: bool, accept_edits: bool, strict: bool) -> ExitCode:
    """Measure the baseline and each technique of a plan, each in a fresh process, and write run.json and report.html.

    Exit codes: 5 a measured value misses a limit, 6 the plan is for another machine or model, 7 a process failed.
    """
    from advisor.cli.progress import ProgressLines
    from advisor.feedback.compare import compare
    from advisor.planfile.check import check_edits, warn_unknown_keys
    from advisor.planfile.store import read_plan
    from advisor.rendering.text.comparison import comparison_dict
    from advisor.rendering.text.run import run_text
    from advisor.service import apply

    plan_file = read_plan(plan)
    warn_unknown_keys(plan_file, plan, output.note)
    check_edits(plan_file, plan, accepted=accept_edits)
    folder = out or new_run_folder(plan_file.id)
    with ProgressLines(quiet=output.quiet) as progress:
        run = apply(plan_file, model_folder=model, out=folder, on_event=progress, ladder=ladder)
    comparison = compare(run)
    output.emit(lambda: comparison_dict(comparison), lambda: run_text(run, **output.look))
    output.note(f"run:    {folder / 'run.json'}\nreport: {folder / 'report.html'}")
    return conclude(comparison, strict=strict)

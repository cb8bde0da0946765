"""`advisor profile`: measure this machine, and manage stored profiles."""

from pathlib import Path

import click

from advisor.cli.options import DefaultGroup, Output, with_output
from advisor.profiles.errors import ExitCode


@click.group("profile", cls=DefaultGroup, short_help="Measure this machine, and manage stored profiles.")
def command() -> None:
    """Measure this machine, and manage stored profiles. Alone it lists them."""


@command.command("run")
@click.option("--name", metavar="NAME", help="Store it under this name; default: the id of the hardware.")
@with_output
def run(output: Output, name: str | None) -> ExitCode:
    """Measure this machine and store the profile."""
    from advisor.cli.progress import ProgressLines
    from advisor.profiles.store import check_name, profiles_folder
    from advisor.rendering.text.profile import profile_text
    from advisor.service import measure_profile

    if name is not None:
        check_name(name)
    with ProgressLines(quiet=output.quiet) as progress:
        profile = measure_profile(name, progress)
    output.emit(lambda: profile.model_dump(mode="json"), lambda: profile_text(profile, **output.look))
    output.note(f"stored {profiles_folder() / profile.name}.yaml; use it with --profile={profile.name}")
    return ExitCode.OK


@command.command("refit")
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--name", metavar="NAME", help="Store it under this name; default: replace the profile that the plan was made with.")
@click.option("--dry-run", is_flag=True, help="Show the factors and store nothing.")
@with_output
def refit(output: Output, run: Path, name: str | None, dry_run: bool) -> ExitCode:
    """Fit a profile to a finished run, so that later plans predict what it measured.

    RUN is the folder that `advisor apply` wrote. The profile's measurements stay; two factors, on operators and on overheads, are added.
    """
    from advisor.feedback.refit import refit_profile
    from advisor.profiles.store import check_name, save_profile
    from advisor.rendering.text.profile import refit_text

    if name is not None:
        check_name(name)
    result = refit_profile(run)
    profile = result.profile.model_copy(update={"name": name or result.profile.name})
    assert profile.refit is not None
    record = {
        "profile": profile.name,
        **profile.refit.model_dump(mode="json"),
        "before_pct": result.before_pct,
        "after_pct": result.after_pct,
    }
    output.emit(lambda: record, lambda: refit_text(result, **output.look))
    if not result.helps:
        output.note("the factors would not reduce the error of this run's predictions: nothing is stored")
    elif not dry_run:
        output.note(f"stored {save_profile(profile)}; use it with --profile={profile.name}")
    return ExitCode.OK


@command.command("list")
@with_output
def list_all(output: Output) -> ExitCode:
    """List the stored profiles."""
    from advisor.profiles.store import list_profiles
    from advisor.rendering.text.profile import profiles_text

    stored = list_profiles()
    records = [{key: getattr(item, key) for key in ("name", "hardware", "fingerprint", "taken", "shared")} for item in stored]
    output.emit(lambda: {"profiles": records}, lambda: profiles_text(stored, **output.look))
    if not stored:
        output.note("no stored profiles; advisor profile run   measures this machine")
    return ExitCode.OK


@command.command("show")
@click.argument("name")
@with_output
def show(output: Output, name: str) -> ExitCode:
    """Show the content of a stored profile or of a profile file."""
    from advisor.profiles.store import load_profile
    from advisor.rendering.text.profile import profile_text

    profile = load_profile(name)
    output.emit(lambda: profile.model_dump(mode="json"), lambda: profile_text(profile, **output.look))
    return ExitCode.OK


@command.command("rm")
@click.argument("name")
@with_output
def remove(output: Output, name: str) -> ExitCode:
    """Remove a stored profile."""
    from advisor.profiles.store import remove_profile

    remove_profile(name)
    output.emit(lambda: {"removed": name}, lambda: f"removed {name}")
    return ExitCode.OK

"""`advisor profile`: measure this machine, and manage stored profiles."""

from pathlib import Path

import click

from advisor.cli.options import DefaultGroup, Output, with_output
from advisor.profiles.errors import ExitCode


@click.group("profile", cls=DefaultGroup, short_help="Measure this machine, and manage stored profiles.")
def command() -> None:
    """Measure this machine, and manage stored profiles. Alone it lists them."""


@command.command("run")
@click.option("--name", metavar="NAME", help="Store it under this name; without it, one made from the machine.")
@with_output
def run(output: Output, name: str | None) -> ExitCode:
    """Measure this machine and store what was found."""
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
@click.option("--name", metavar="NAME", help="Store it under this name; without it, over the profile that the plan was made with.")
@click.option("--dry-run", is_flag=True, help="Show what it would change and store nothing.")
@with_output
def refit(output: Output, run: Path, name: str | None, dry_run: bool) -> ExitCode:
    """Teach a profile from a finished run: later plans predict as this run was measured.

    RUN is the folder that `advisor apply` wrote. What the profile measured stays; two factors, on operators and on overheads, stand beside.
    """
    from advisor.feedback.refit import refit_profile
    from advisor.profiles.store import check_name, save_profile
    from advisor.rendering.text.profile import refit_text

    if name is not None:
        check_name(name)
    taught = refit_profile(run)
    profile = taught.profile.model_copy(update={"name": name or taught.profile.name})
    assert profile.refit is not None
    record = {
        "profile": profile.name,
        **profile.refit.model_dump(mode="json"),
        "before_pct": taught.before_pct,
        "after_pct": taught.after_pct,
    }
    output.emit(lambda: record, lambda: refit_text(taught, **output.look))
    if not taught.helps:
        output.note("predictions of this run would come no nearer: nothing is stored")
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
    """Show what a stored profile, or a profile file, holds."""
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

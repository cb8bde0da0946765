"""Machine profiles on disk: save, load, list, remove, and find a fresh one of a machine."""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import indent

import yaml
from pydantic import ValidationError

from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import read_yaml, write_whole
from advisor.profiles.machine import AttentionPoint, GemmPoint, MachineProfile, render_table

FRESH_FOR = timedelta(days=30)
"""Age up to which a profile is used without being named."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_RESERVED = {"now", "auto", "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProfile:
    """One line of the list of profiles."""

    name: str
    path: Path
    fingerprint: str
    hardware: str
    taken: str
    shared: bool


def profiles_folder() -> Path:
    """The folder of the user's profiles: `$XDG_DATA_HOME/advisor/profiles`."""
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "advisor" / "profiles"


def check_name(name: str) -> str:
    """Return a valid profile name. Raises `AdvisorError` `bad-profile-name` otherwise."""
    if _NAME.fullmatch(name) and name not in _RESERVED:
        return name
    raise AdvisorError(
        "bad-profile-name",
        f"`{name}` cannot name a profile",
        exit_code=ExitCode.USAGE,
        notes=("a name is lower-case letters, digits and hyphens, and none of now, auto, none",),
        field="name",
        action=ErrorAction.CORRECT,
    )


def check_writable() -> None:
    """Raise `AdvisorError` `not-writable` where no profile can be stored; called before measuring."""
    folder = profiles_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AdvisorError(
            "not-writable", f"cannot store profiles in {folder}: {reason}", help=("set XDG_DATA_HOME to a folder of yours",)
        ) from error
    if not os.access(folder, os.W_OK):
        raise AdvisorError(
            "not-writable", f"cannot store profiles in {folder}: no permission", help=("set XDG_DATA_HOME to a folder of yours",)
        )


def save_profile(profile: MachineProfile) -> Path:
    """Store a profile under its name, replacing one of that name; return its path. Raises as `write_whole` does."""
    return write_whole(profiles_folder() / f"{check_name(profile.name)}.yaml", profile_yaml(profile))


def profile_yaml(profile: MachineProfile) -> str:
    """The text of a profile's file: scalars first, then the measured points as tables."""
    record = profile.model_dump(mode="json", exclude_none=True, exclude={"gemm", "attention"})
    head: str = yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=120)
    tables = {
        "gemm": render_table(tuple(GemmPoint.model_fields), profile.gemm),
        "attention": render_table(tuple(AttentionPoint.model_fields), profile.attention),
    }
    return head + "".join(f"{key}: |\n" + indent(table, "  ") for key, table in tables.items())


def load_profile(name_or_path: str | Path) -> MachineProfile:
    """The stored profile of a name, or the profile in a file: a `Path`, or a string with a slash or ending in `.yaml`.

    Raises `AdvisorError` `profile-not-found` or `bad-profile`.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or os.sep in name or name.endswith((".yaml", ".yml")):
        return _read(Path(name_or_path))
    path = profiles_folder() / f"{check_name(name)}.yaml"
    if not path.is_file():
        from difflib import get_close_matches  # only an error needs it

        near = get_close_matches(name, [item.stem for item in profiles_folder().glob("*.yaml")], n=3)
        help_lines = (f"did you mean {', '.join(near)}?",) if near else ()
        raise AdvisorError(
            "profile-not-found",
            f"no stored profile `{name}`",
            exit_code=ExitCode.MISSING,
            help=(*help_lines, "advisor profile list   lists the stored ones"),
            field="profile",
            action=ErrorAction.CHOOSE,
        )
    return _read(path)


def _read(path: Path) -> MachineProfile:
    record = read_yaml(path, what="profile")
    try:
        return MachineProfile.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise AdvisorError(
            "bad-profile", f"profile {path}: {field}: {_sentence(first['msg'])}", exit_code=ExitCode.USAGE, file=str(path), field="profile"
        ) from error


def _sentence(message: str) -> str:
    if message.startswith("Input should be a valid dictionary"):
        return "expected a mapping"
    return message[:1].lower() + message[1:]


def list_profiles() -> tuple[StoredProfile, ...]:
    """Every readable stored profile, by name."""
    profiles = []
    for path in sorted(profiles_folder().glob("*.yaml")):
        try:
            profile = _read(path)
        except AdvisorError:
            continue
        profiles.append(
            StoredProfile(
                name=path.stem,
                path=path,
                fingerprint=profile.fingerprint,
                hardware=profile.hardware.name,
                taken=profile.taken,
                shared=profile.shared,
            )
        )
    return tuple(profiles)


def remove_profile(name: str) -> None:
    """Delete a stored profile. Raises `AdvisorError` `profile-not-found`."""
    path = profiles_folder() / f"{check_name(name)}.yaml"
    try:
        path.unlink()
    except FileNotFoundError as error:
        raise AdvisorError(
            "profile-not-found", f"no stored profile `{name}`", exit_code=ExitCode.MISSING, field="name", action=ErrorAction.CHOOSE
        ) from error


def fresh_profile(fingerprint: str, now: datetime | None = None) -> MachineProfile | None:
    """The newest stored profile of the machine with that fingerprint that is younger than 30 days."""
    newest_first = sorted(list_profiles(), key=lambda stored: stored.taken, reverse=True)
    for stored in newest_first:
        age = (now or datetime.now(UTC)) - datetime.fromisoformat(stored.taken)
        if stored.fingerprint == fingerprint and abs(age) < FRESH_FOR:
            return _read(stored.path)
    return None

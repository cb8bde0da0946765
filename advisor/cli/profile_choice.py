"""Parses `--profile [NAME]`, whose argument may be the profile's name or the MODEL after it."""

import re
from dataclasses import dataclass
from pathlib import Path

from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import expanded, is_file

KEYWORDS = ("now", "auto", "none")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class ModelAndProfile:
    """The model to plan for, and the profile: a keyword, a name, or the path of a file."""

    model: str
    profile: str

    @property
    def profile_file(self) -> Path | None:
        """The path of the profile, if a file was given."""
        return Path(self.profile) if _is_file(self.profile) else None


def read_model_and_profile(model: str | None, profile: str) -> ModelAndProfile:
    """Decide which argument is the model and which the profile.

    Raises `AdvisorError`: `profile-ambiguous`, `bad-profile-name` or `model-missing`.
    """
    if _is_file(profile):
        return ModelAndProfile(_required(model), profile)
    if profile in KEYWORDS or (_NAME.fullmatch(profile) and (model is not None or _is_stored(profile))):
        return ModelAndProfile(_required(model), profile)
    if model is None and not _NAME.fullmatch(profile):
        return ModelAndProfile(profile, "now")
    if model is None:
        raise AdvisorError(
            "profile-ambiguous",
            f"`--profile {profile}` could name a profile or the model",
            exit_code=ExitCode.USAGE,
            help=(
                f"advisor plan {profile} --profile          measures this machine, then plans for the model {profile}",
                f"advisor plan MODEL --profile={profile}    plans for MODEL from the profile {profile}",
            ),
            field="profile",
            action=ErrorAction.CORRECT,
        )
    raise AdvisorError(
        "bad-profile-name",
        f"`{profile}` is neither a profile name nor a profile file that exists",
        exit_code=ExitCode.USAGE,
        notes=("a name is lower-case letters, digits and hyphens; a file has a slash or ends in .yaml",),
        help=(f"advisor plan {model} --profile=NAME", "advisor profile list   lists the stored ones"),
        field="profile",
        action=ErrorAction.CORRECT,
    )


def _is_file(word: str) -> bool:
    """Whether the argument is the path of a profile file; a folder is a model."""
    if word.endswith((".yaml", ".yml")):
        return True
    return "/" in word and is_file(expanded(word))


def _is_stored(name: str) -> bool:
    from advisor.profiles.store import profiles_folder  # parses with pydantic; only needed when a name stands alone

    return (profiles_folder() / f"{name}.yaml").is_file()


def _required(model: str | None) -> str:
    if model is None:
        raise AdvisorError(
            "model-missing",
            "plan needs a MODEL",
            exit_code=ExitCode.USAGE,
            notes=("MODEL is a folder, a config.json, or an id such as meta-llama/Meta-Llama-3.1-8B",),
            help=("advisor plan meta-llama/Meta-Llama-3.1-8B", "advisor models   lists the shipped ones"),
            field="model",
            action=ErrorAction.GIVE,
        )
    return model

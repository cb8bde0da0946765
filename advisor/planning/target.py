"""Resolves the machine that is planned for. It measures nothing: for `--profile`, the caller measures before."""

from dataclasses import dataclass

from advisor.backends.detection.detect import detect, detected_hardware, fingerprint
from advisor.backends.processes.events import OnEvent
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import catalogue_machine
from advisor.estimate.machines.machine import Machine
from advisor.estimate.machines.power_limit import power_limit_of, with_power_limit
from advisor.estimate.machines.profiled import ProfiledMachine
from advisor.planning.planner import Planner
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import EngineProfile
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.evidence import load_evidence
from advisor.profiles.hardware import Hardware, hardware_id, load_hardware, meaning_note
from advisor.profiles.machine import MachineProfile
from advisor.profiles.store import fresh_profile, load_profile


@dataclass(frozen=True, slots=True)
class Target:
    """The machine that is planned for."""

    hardware: Hardware
    machine: Machine
    """Prices operators: from tables measured on the machine, or from its data sheet and published kernel measurements."""
    profile: str | None
    """Name of the machine profile behind `machine`; `None` for a data sheet."""


def planner_for(model: ModelSpec, target: Target, engine: EngineProfile) -> Planner:
    """The planner of a model on a target."""
    return Planner(model, target.hardware, Estimator(target.machine, engine), load_evidence(), target.profile)


def resolve_target(
    hardware: str | None,
    profile: str | MachineProfile,
    engine: EngineProfile,
    on_event: OnEvent | None = None,
    *,
    power_limit_w: float | None = None,
) -> Target:
    """Resolve a hardware id and a profile to a target.

    `hardware` is an id or a name of the catalogue, or the path of a data sheet; `None` for this machine. `profile` is a loaded profile, or
    a word: `auto` takes this machine's stored profile while it is fresh, `none` takes the data sheet, anything else names a stored profile
    or a file.
    Raises `AdvisorError`: `profile-elsewhere` where the profile is of other hardware, those of loading either, and those of a
    `power_limit_w` that cannot be priced: a profile has the limit that it was measured under.
    """
    target = _unlimited_target(hardware, profile, engine, on_event)
    if power_limit_w is None:
        return target
    if target.profile is not None:
        raise AdvisorError(
            "bad-power-limit",
            f"the profile {target.profile} was measured under the limit that was set then, and is not changed by another",
            exit_code=ExitCode.USAGE,
            help=("set the limit on the device and measure it again", "or --profile=none to plan from the data sheet"),
            field="power_limit_w",
            action=ErrorAction.DROP,
        )
    limited = with_power_limit(target.hardware, power_limit_w)
    if on_event is not None and (limit := power_limit_of(limited)):
        on_event(f"note: {limit.words}")
    return target_of_datasheet(limited, engine)


def _unlimited_target(hardware: str | None, profile: str | MachineProfile, engine: EngineProfile, on_event: OnEvent | None) -> Target:
    if hardware is not None and on_event is not None and (note := meaning_note(hardware)):
        on_event(f"note: {note}")
    hardware = hardware and hardware_id(hardware)
    if isinstance(profile, MachineProfile):
        return target_of_profile(profile)
    if profile not in ("auto", "none"):
        return _target_of_named(profile, hardware)
    here = detect()
    local = detected_hardware(here)
    if hardware is not None and hardware != local.id:
        return target_of_datasheet(load_hardware(hardware), engine)
    stored = fresh_profile(fingerprint(here)) if profile == "auto" else None
    if stored is not None:
        return target_of_profile(stored)
    if on_event is not None and profile == "auto":
        on_event("note: no fresh profile of this machine; numbers come from its data sheet. `--profile` measures it in about a minute")
    return target_of_datasheet(local, engine)


def check_is_this_machine(hardware: str | None) -> None:
    """Raise `AdvisorError` `profile-elsewhere` unless `hardware` is this machine's id or `None`: nothing else can be measured from here."""
    local = detected_hardware(detect())
    if hardware is not None and hardware_id(hardware) != local.id:
        raise AdvisorError(
            "profile-elsewhere",
            f"`--profile` measures this machine, which is {local.id}, not {hardware_id(hardware)}",
            exit_code=ExitCode.MISSING,
            help=("drop --profile to plan from the data sheet", "or --profile=NAME for a profile taken there"),
            field="profile",
            action=ErrorAction.DROP,
        )


def target_of_profile(profile: MachineProfile) -> Target:
    """The machine that a profile was taken on, priced from its tables."""
    return Target(profile.hardware, ProfiledMachine(profile), profile.name)


def target_of_datasheet(hardware: Hardware, engine: EngineProfile) -> Target:
    """Catalogue hardware, priced from its data sheet and published kernel measurements."""
    return Target(hardware, catalogue_machine(hardware, engine), None)


def _target_of_named(profile: str, hardware: str | None) -> Target:
    loaded = load_profile(profile)
    if hardware not in (None, loaded.hardware.id):
        raise AdvisorError(
            "profile-elsewhere",
            f"the profile {profile} was taken on {loaded.hardware.id}, not on {hardware}",
            exit_code=ExitCode.MISSING,
            help=(f"drop --hardware {hardware}, or drop --profile to plan from the data sheet",),
            field="hardware",
            action=ErrorAction.DROP,
        )
    return target_of_profile(loaded)

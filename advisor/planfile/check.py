"""Whether a plan may be run on this machine: unedited, and made for it and for the model."""

import dataclasses
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from advisor.backends.deployment import Deployment, baseline
from advisor.backends.detection.detect import Detected, detected_hardware, fingerprint
from advisor.planfile.command import plan_command
from advisor.planfile.deployment import deployment_of, techniques_of
from advisor.planfile.file import PlanFile, request_of
from advisor.planfile.sections import PlanLimits
from advisor.planning.search import apply_on_paper
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.request import Load, Prefer
from advisor.quantities.limits import LIMITS


def warn_unknown_keys(plan: PlanFile, path: Path, say: Callable[[str], None]) -> None:
    """Call `say` with one note about keys that this version does not know; they are preserved and not used."""
    if unknown := list(plan.unknown_keys()):
        say(f"note: {path}: kept but not acted upon, as this version does not know them: {', '.join(unknown)}")


def check_edits(plan: PlanFile, path: Path, *, accepted: bool) -> None:
    """Refuse a plan whose limits or decision no longer match its digest. Raises `AdvisorError` `plan-edited`."""
    if plan.edited and not accepted:
        raise AdvisorError(
            "plan-edited",
            f"{path} was edited after it was made: its digest does not match id, limits, apply, model and machine",
            exit_code=ExitCode.STALE,
            notes=("what it predicts is for the plan before the edit; nothing was run",),
            help=(f"advisor apply {shlex.quote(str(path))} --accept-edits   predicts again and runs it", replan_command(plan)),
            file=str(path),
        )


def sheet_fingerprint(hardware_id: str, devices: int) -> str:
    """Fingerprint of hardware that is not this machine, planned for from its data sheet."""
    return f"sheet:{hardware_id}*{devices}"


def check_machine(plan: PlanFile, here: Detected) -> None:
    """Refuse a plan that was made for another machine. Raises `AdvisorError` `plan-stale`.

    A plan from a data sheet is accepted on each machine with at least that number of that accelerator.
    """
    hardware = detected_hardware(here).id
    sheets = {sheet_fingerprint(hardware, devices) for devices in range(1, here.devices + 1)}
    if plan.machine.fingerprint not in {fingerprint(here), *sheets}:
        raise AdvisorError(
            "plan-stale",
            "the plan was made for another machine; nothing was run",
            exit_code=ExitCode.STALE,
            notes=(f"plan: {plan.machine.fingerprint}", f"here: {fingerprint(here)}"),
            help=(replan_command(plan),),
        )


def check_model(plan: PlanFile, model: ModelSpec) -> None:
    """Refuse a model whose architecture is not the plan's. Raises `AdvisorError` `plan-stale`."""
    if plan.model.digest is not None and plan.model.digest != model.config_digest:
        raise AdvisorError(
            "plan-stale",
            f"the plan was made for another model than {model.folder or model.id}; nothing was run",
            exit_code=ExitCode.STALE,
            notes=(
                f"plan: {plan.model.name}, {plan.model.parameters} parameters, config {plan.model.digest}",
                f"here: {model.id}, {model.parameters} parameters, config {model.config_digest}",
            ),
            help=("give the plan's model with --model DIR, or plan for this one", replan_command(plan)),
        )


def check_decision(plan: PlanFile, model: ModelSpec) -> None:
    """Refuse a plan whose settings differ from those that its techniques produce, as after an edit of one of them.

    Raises `AdvisorError` `plan-inconsistent` with every setting that differs.
    """
    described = deployment_of(plan, model)
    start = baseline(model, max_sequences=described.batching.max_sequences, parallel=described.parallel, engine=described.engine)
    start = start.in_dtype(described.weights.dtype) if described.weights.dtype else start
    stack = apply_on_paper(techniques_of(plan), start, request_of(plan))
    if isinstance(stack, str):
        raise _inconsistent("a technique of the plan refuses it", (stack,))
    if differing := tuple(_differences(described, stack.deployment)):
        raise _inconsistent("the settings under `apply` are not what its techniques make", differing)


def _inconsistent(message: str, notes: tuple[str, ...]) -> AdvisorError:
    return AdvisorError(
        "plan-inconsistent",
        message,
        exit_code=ExitCode.USAGE,
        notes=notes,
        help=("edit `apply.techniques` and the setting together, or plan again with --require TECH or --forbid TECH",),
    )


def _differences(described: Deployment, made: Deployment) -> Iterator[str]:
    ignored = {"acceptance", "acceptance_spread", "draft_model", "draft_folder"}
    for slot in ("weights", "attention", "kv", "decoding", "batching"):
        written, produced = getattr(described, slot), getattr(made, slot)
        for field in dataclasses.fields(written):
            given, expected = getattr(written, field.name), getattr(produced, field.name)
            if field.name not in ignored and given != expected:
                yield f"{slot} {field.name.replace('_', ' ')}: {_shown(given)} in the settings, {_shown(expected)} by the techniques"


def _shown(value: object) -> str:
    return ", ".join(sorted(map(str, value))) if isinstance(value, frozenset) else str(value)


def _has_slack(stated: PlanLimits) -> bool:
    """Whether the longest sequence is longer than prompt and output of mean length."""
    return stated.context_tokens > (stated.prompt_tokens or 0) + stated.output_tokens


def replan_command(plan: PlanFile) -> str:
    """The command that makes the same plan for this machine."""
    stated = plan.limits
    limits = {limit.flag: stated.bound(limit.name) for limit in LIMITS.values()}
    options = limits | {
        "--power-limit": plan.machine.power_limit_w,
        "--context": stated.context_tokens,
        "--prompt-tokens": stated.prompt_tokens if not stated.load_trace else None,
        "--output-tokens": stated.output_tokens if not stated.load_trace else None,
        "--shared-prefix": stated.shared_prefix_tokens,
        "--concurrency": stated.concurrency if stated.load is not Load.BURST else None,
        "--burst": stated.concurrency if stated.load is Load.BURST else None,
        "--load-trace": stated.load_trace,
        "--use-case": stated.use_case.value if stated.use_case else None,
        "--kv-pool": "longest" if stated.prompt_tokens and not stated.oversubscribe and _has_slack(stated) else None,
        "--prefer": stated.prefer.value if stated.prefer is not Prefer.BALANCED else None,
    }
    return plan_command(plan.model.path or plan.model.name, options, require=stated.require, forbid=stated.forbid)

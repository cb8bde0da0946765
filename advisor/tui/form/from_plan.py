"""The question of a plan file, as texts of the form."""

from pathlib import Path

from advisor.planfile.file import PlanFile
from advisor.planfile.store import read_plan
from advisor.planfile.yaml import plain_number
from advisor.profiles.request import Load, Prefer
from advisor.quantities.limits import LIMITS
from advisor.tui.form.values import FormValues


def values_of_file(path: Path) -> FormValues:
    """Model, machine, lengths, load, limits and constraints on techniques of a plan file. Raises `AdvisorError` as `read_plan` does."""
    plan = read_plan(path)
    values = FormValues({}, tuple(sorted(plan.limits.require)), tuple(sorted(plan.limits.forbid)))
    for name, value in _values(plan).items():
        if value is not None:
            values = values.with_text(name, plain_number(value) if isinstance(value, float) else str(value))
    return values


def _values(plan: PlanFile) -> dict[str, str | int | float | None]:
    limits, machine = plan.limits, plan.machine
    traced, burst = limits.load_trace is not None, limits.load is Load.BURST
    prompt = limits.prompt_tokens or limits.context_tokens - limits.output_tokens
    return {
        "model": plan.model.path or plan.model.name,
        "hardware": machine.hardware if machine.fingerprint.startswith("sheet:") else None,
        "devices": machine.gpus if machine.gpus > 1 else None,
        "profile": machine.profile,
        "context": limits.context_tokens,
        "prompt_tokens": None if traced else prompt,
        "output_tokens": None if traced else limits.output_tokens,
        "shared_prefix": limits.shared_prefix_tokens,
        "concurrency": None if burst or traced else limits.concurrency,
        "request_rate": limits.request_rate_per_s,
        "burst": limits.concurrency if burst else None,
        "load_trace": limits.load_trace,
        **{limit.parameter: limits.bound(limit.name) for limit in LIMITS.values() if not limit.is_load},
        "use_case": limits.use_case.value if limits.use_case else None,
        "prefer": limits.prefer.value if limits.prefer is not Prefer.BALANCED else None,
    }

"""Saves a plan: whole or not at all, and not when the file already says the same."""

from pathlib import Path

from advisor.plans.file import PlanFile
from advisor.plans.read import read_plan
from advisor.plans.yaml import to_yaml
from advisor.profiles.errors import AdvisorError
from advisor.profiles.files import write_whole


def save_plan(plan: PlanFile, path: Path) -> bool:
    """Write the plan unless only the clock differs from what is there; whether it was written. Raises as `write_whole` does."""
    if path.is_file() and _says_the_same(plan, path):
        return False
    write_whole(path, to_yaml(plan))
    return True


def replaced_by(plan: PlanFile, path: Path) -> str | None:
    """What stands in a file and would be gone once the plan is saved there, in words; `None` for nothing else than the plan itself."""
    if not path.is_file() or _says_the_same(plan, path):
        return None
    try:
        before = read_plan(path)
    except AdvisorError:
        return "a file that is no plan"
    return f"another plan, {before.id}: {before.title}"


def _says_the_same(plan: PlanFile, path: Path) -> bool:
    try:
        before = read_plan(path)
    except AdvisorError:
        return False
    stamped = before.provenance.model_copy(update={"created": plan.provenance.created})
    return before.model_copy(update={"provenance": stamped}) == plan

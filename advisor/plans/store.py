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


def _says_the_same(plan: PlanFile, path: Path) -> bool:
    try:
        before = read_plan(path)
    except AdvisorError:
        return False
    stamped = before.provenance.model_copy(update={"created": plan.provenance.created})
    return before.model_copy(update={"provenance": stamped}) == plan

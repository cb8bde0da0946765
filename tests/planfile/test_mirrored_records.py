"""Sections of the decision that follow the deployment's records."""

from dataclasses import dataclass

import pytest

from advisor.backends.deployment import Attention, Batching, KvCache
from advisor.planfile import decision
from advisor.planfile.decision import PlanPart, mirrors


@dataclass(frozen=True)
class Cache:
    window: int | None = None
    tail: int = 0
    far_window: int | None = None


@mirrors(Cache, tail="tail_tokens")
class Section(PlanPart):
    """A section that was written before `far_window` was an option."""

    window: int | None = None
    tail_tokens: int | None = None


def test_a_new_option_of_a_record_is_a_key_of_its_section() -> None:
    assert list(Section.model_fields) == ["window", "tail_tokens", "far_window"]
    assert Section.model_validate({"far_window": 512}).model_extra == {}
    assert Section().model_dump(exclude_none=True) == {}
    assert Section.__name__ == Section.model_json_schema()["title"] == "Section"


@pytest.mark.parametrize(
    ("section", "record"),
    [(decision.CacheChoice, KvCache), (decision.AttentionChoice, Attention), (decision.BatchingChoice, Batching)],
)
def test_every_key_of_a_section_belongs_to_its_record(section: type[PlanPart], record: type) -> None:
    assert set(section.record_keys.values()) == set(section.model_fields)
    assert set(section.record_keys) <= set(record.__annotations__)

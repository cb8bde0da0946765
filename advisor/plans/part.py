"""What every section of a plan file is: a frozen record that keeps what it does not know; and the numbers that stand in one."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Whole = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
Number = Annotated[float, Field(strict=True)]
Chance = Annotated[float, Field(ge=0, le=1, strict=True)]


class PlanPart(BaseModel):
    """A frozen section that keeps the keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    def unknown_keys(self, path: str = "") -> Iterator[str]:
        """Dotted names of every key that this version of advisor does not know."""
        yield from (f"{path}{key}" for key in (self.model_extra or {}) if "__pydantic_extra__" not in type(self).__annotations__)
        for name in type(self).model_fields:
            value = getattr(self, name)
            parts = value if isinstance(value, tuple) else (value,)
            for part in parts:
                if isinstance(part, PlanPart):
                    yield from part.unknown_keys(f"{path}{name}.")

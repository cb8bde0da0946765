"""The base of every record in a file: immutable, strict about unknown keys, validated once."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A frozen record. Raises pydantic's `ValidationError` on unknown keys and wrong types."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

"""How the terminal interface is drawn, and where its state is saved."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """Options of one run of the terminal interface."""

    ascii: bool = False
    no_colour: bool = False
    light: bool = False
    file: Path | None = None
    """File of the saved state; `None`: the state is not saved."""
    resume: bool = False
    """Whether the first screen is the plan instead of the choice of a model."""
    notice: str = ""
    """A message shown with the first screen."""

"""The form's values: texts as typed, and techniques that are required or forbidden. Imports no planner and no Textual."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from advisor.planfile.command import plan_options
from advisor.profiles.technique_name import technique_in
from advisor.tui.form.fields import BY_NAME, FIELDS


class Constraint(StrEnum):
    """Whether plans must have a technique, must not have it, or may have it."""

    FREE = "free"
    REQUIRED = "required"
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True)
class FormValues:
    """A question as typed. Equal values are the same question."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """By field name; an empty field is absent."""
    require: tuple[str, ...] = ()
    """Techniques with their options, as in `kv-window:window=128`."""
    forbid: tuple[str, ...] = ()
    """Names of techniques."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked."""
        return not (self.texts or self.require or self.forbid)

    def in_common(self, other: "FormValues") -> tuple[str, ...]:
        """What both questions ask, in the words of the form, the model last: `Machine rtx-4090`, `TPOT max 30`, `weights-int4 required`."""
        texts = [f"{BY_NAME[name].short_label} {text}" for name, text in self.texts.items() if text == other.text(name)]
        if self.text("model") == other.text("model") != "":
            texts = [*texts[1:], texts[0]]
        required = [f"{technique} required" for technique in self.require if technique in other.require]
        return (*texts, *required, *(f"{technique} forbidden" for technique in self.forbid if technique in other.forbid))

    def text(self, name: str) -> str:
        """The text of a field; empty where nothing was typed."""
        return self.texts.get(name, "")

    def with_text(self, name: str, text: str) -> "FormValues":
        """The same question with another text in one field."""
        text = text.strip()
        changed = {**self.texts, name: text}
        texts = {field.name: changed[field.name] for field in FIELDS if changed.get(field.name)}
        return replace(self, texts=texts)

    def constraint_of(self, technique: str) -> Constraint:
        """The constraint of a technique."""
        if technique in map(technique_in, self.require):
            return Constraint.REQUIRED
        return Constraint.FORBIDDEN if technique in self.forbid else Constraint.FREE

    def with_constraint(self, technique: str, constraint: Constraint) -> "FormValues":
        """The same question with another constraint of a technique."""
        require = tuple(word for word in self.require if technique_in(word) != technique)
        forbid = tuple(name for name in self.forbid if name != technique)
        if constraint is Constraint.REQUIRED:
            require = tuple(sorted((*require, technique)))
        elif constraint is Constraint.FORBIDDEN:
            forbid = tuple(sorted((*forbid, technique)))
        return replace(self, require=require, forbid=forbid)

    def words(self) -> tuple[str, ...]:
        """The same question as arguments of `advisor plan`, to show to a user."""
        options = {field.flag: self.texts[name] for name, field in BY_NAME.items() if field.flag and name in self.texts}
        pairs = plan_options(options, require=self.require, forbid=self.forbid)
        model = [f"--model={self.texts['model']}"] if "model" in self.texts else []
        return (*model, *(f"{flag}={text}" for flag, text in pairs))

    def errors(self) -> dict[str, str]:
        """The fields that cannot be read, each with a sentence on what to type."""
        errors = {}
        for name, row in BY_NAME.items():
            try:
                row.read(self.text(name))
            except ValueError as error:
                errors[name] = str(error)
        return errors

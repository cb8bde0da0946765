"""What a person has said so far: the texts of the form, and techniques forced in or out. Knows no screen and no planner."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from advisor.profiles.technique_name import technique_in
from advisor.tui.form.fields import BY_NAME, FIELDS


class Force(StrEnum):
    """What was said of a technique."""

    FREE = "free"
    REQUIRED = "required"
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True)
class FormValues:
    """The question as it was typed. Two equal ones are the same question."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """By field name; an empty field is absent."""
    require: tuple[str, ...] = ()
    """Each with its options, as `kv-window:window=128`."""
    forbid: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """What stands in a field."""
        return self.texts.get(name, "")

    def with_text(self, name: str, text: str) -> "FormValues":
        """The same question with another text in one field."""
        text = text.strip()
        changed = {**self.texts, name: text}
        kept = {field.name: changed[field.name] for field in FIELDS if changed.get(field.name)}
        return replace(self, texts=kept)

    def constraint_of(self, technique: str) -> Force:
        """Whether a technique is forced in, forced out, or free."""
        if technique in map(technique_in, self.require):
            return Force.REQUIRED
        return Force.FORBIDDEN if technique in self.forbid else Force.FREE

    def with_constraint(self, technique: str, force: Force) -> "FormValues":
        """The same question with a technique forced in, out, or free again."""
        require = tuple(word for word in self.require if technique_in(word) != technique)
        forbid = tuple(name for name in self.forbid if name != technique)
        if force is Force.REQUIRED:
            require = tuple(sorted((*require, technique)))
        elif force is Force.FORBIDDEN:
            forbid = tuple(sorted((*forbid, technique)))
        return replace(self, require=require, forbid=forbid)

    def words(self) -> tuple[str, ...]:
        """The same question on the command line: what follows `advisor plan`."""
        flagged = [(BY_NAME[name].flag, text) for name, text in self.texts.items() if BY_NAME[name].flag]
        forced = [("--require", word) for word in self.require] + [("--forbid", name) for name in self.forbid]
        options = [f"{flag}={text}" for flag, text in (*flagged, *forced)]
        model = [f"--model={self.texts['model']}"] if "model" in self.texts else []
        return (*model, *options)

    def errors(self) -> dict[str, str]:
        """Every field that cannot be read, with what to type."""
        found = {}
        for each in FIELDS:
            try:
                each.read(self.text(each.name))
            except ValueError as error:
                found[each.name] = str(error)
        return found

"""Undo and redo of what was asked."""

from dataclasses import dataclass, field, replace

from advisor.tui.form.values import FormValues

MOST_STEPS = 100


@dataclass(frozen=True, slots=True)
class History:
    """The question as it stands, what it was before, and what it was before that was undone; latest last in both."""

    present: FormValues = field(default_factory=FormValues)
    past: tuple[FormValues, ...] = ()
    future: tuple[FormValues, ...] = ()

    def changed(self, asked: FormValues, *, join: bool = False) -> "History":
        """A new question; what was undone is gone. `join` makes one step of this change and the last, as while a word is typed."""
        if asked == self.present:
            return self
        past = self.past if join and self.past else (*self.past, self.present)[-MOST_STEPS:]
        return History(asked, past)

    def undone(self) -> "History":
        """One step back; the same where there is none."""
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (*self.future, self.present))

    def redone(self) -> "History":
        """One step forward again."""
        if not self.future:
            return self
        return replace(self, present=self.future[-1], past=(*self.past, self.present), future=self.future[:-1])

    def readable(self, before: FormValues | None = None) -> FormValues:
        """The question with each field that cannot be read as it was before, or as it last could be."""
        asked = self.present
        for name in self.present.errors():
            steps = (before,) if before is not None else reversed(self.past)
            asked = asked.with_text(name, next((step.text(name) for step in steps if name not in step.errors()), ""))
        return asked

"""Undo and redo of the question."""

from dataclasses import dataclass, field, replace

from advisor.tui.form.values import FormValues

MOST_STEPS = 100


@dataclass(frozen=True, slots=True)
class History:
    """The present question, earlier ones, and ones that were undone; the latest last in both."""

    present: FormValues = field(default_factory=FormValues)
    past: tuple[FormValues, ...] = ()
    future: tuple[FormValues, ...] = ()

    def changed(self, values: FormValues, *, join: bool = False) -> "History":
        """The history with another present question, without those that were undone.

        `join` makes this change and the last one a single step, as while a word is typed.
        """
        if values == self.present:
            return self
        past = self.past if join and self.past else (*self.past, self.present)[-MOST_STEPS:]
        return History(values, past)

    def undone(self) -> "History":
        """One step back; the same history where there is none."""
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (*self.future, self.present))

    def redone(self) -> "History":
        """One step forward again."""
        if not self.future:
            return self
        return replace(self, present=self.future[-1], past=(*self.past, self.present), future=self.future[:-1])

    def readable(self, before: FormValues | None = None) -> FormValues:
        """The present question, with the text of `before` in fields that cannot be read; without `before`, their last readable text."""
        values = self.present
        for name in self.present.errors():
            steps = (before,) if before is not None else reversed(self.past)
            values = values.with_text(name, next((step.text(name) for step in steps if name not in step.errors()), ""))
        return values

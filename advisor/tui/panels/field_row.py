"""One field of the form: label, text, the number that was read, and an error below."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Label, Static

from advisor.tui.form.fields import Field
from advisor.tui.panels.stable_text import TextField


class FieldRow(Vertical):
    """Posts every change of its text; shows an error on a line of its own."""

    class Changed(Message):
        """The text of a field changed."""

        def __init__(self, name: str, text: str) -> None:
            super().__init__()
            self.field = name
            self.text = text

    class Entered(Message):
        """Enter was pressed in a field."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.field = name

    def __init__(self, field: Field, text: str) -> None:
        super().__init__(id=f"row-{field.name}")
        self.field = field
        self._text = text
        self._error = self._number_text = ""

    def compose(self) -> ComposeResult:
        """Label, text and number side by side; the error below."""
        with Horizontal(classes="field"):
            yield Label(self.field.label)
            yield TextField(self._text, placeholder=self.field.empty, compact=True, select_on_focus=False, id=f"field-{self.field.name}")
            yield Static("", classes="number", markup=False)
        yield Static("", classes="error", markup=False)

    @property
    def input(self) -> Input:
        """The text field."""
        return self.query_one(Input)

    def show(self, text: str) -> None:
        """Put a text into the field, unless it is there already."""
        if self.input.value.strip() != text:
            self.input.value = text

    def show_error(self, sentence: str) -> None:
        """Show an error; an empty sentence removes it."""
        if sentence != self._error:  # an update computes the layout of the whole screen
            self._error = sentence
            self.query_one(".error", Static).update(sentence)
            self.set_class(bool(sentence), "-wrong")

    def on_descendant_focus(self) -> None:
        """Mark the focused field."""
        self.query_one(Label).update(f"{self.field.label:<21}>", layout=False)

    def on_descendant_blur(self) -> None:
        """Remove the mark."""
        self.query_one(Label).update(self.field.label, layout=False)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Post the change."""
        event.stop()
        self._read(event.value)
        self.post_message(self.Changed(self.field.name, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Post that Enter was pressed."""
        event.stop()
        self.post_message(self.Entered(self.field.name))

    def _read(self, text: str) -> None:
        """Show the number that was read where its text differs."""
        from advisor.quantities.formatting import number  # loads what metrics are, which the first frame does not wait for

        try:
            value = self.field.read(text)
        except ValueError:
            value = None
        plain = "" if value is None else str(value) if isinstance(value, int) else number(value, trim=True)
        number_text = f" = {plain} " if plain and plain != text.strip() else ""
        if number_text != self._number_text:
            self._number_text = number_text
            self.query_one(".number", Static).update(number_text)

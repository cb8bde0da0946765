"""One field of the form: label, what is typed, what it was read as, and below it what is wrong with it."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Label, Static

from advisor.tui.form.fields import Field
from advisor.tui.panels.stable_text import TextField


class FieldRow(Vertical):
    """Sends every change of its text; says on a line of its own what is wrong."""

    class Typed(Message):
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
        self._error = self._reading = ""

    def compose(self) -> ComposeResult:
        """Label, field and reading side by side; the error below."""
        with Horizontal(classes="field"):
            yield Label(self.field.label)
            yield TextField(self._text, placeholder=self.field.empty, compact=True, select_on_focus=False, id=f"field-{self.field.name}")
            yield Static("", classes="reading", markup=False)
        yield Static("", classes="error", markup=False)

    @property
    def input(self) -> Input:
        """Where the text is typed."""
        return self.query_one(Input)

    def show(self, text: str) -> None:
        """Put a text into the field, unless it says so already."""
        if self.input.value.strip() != text:
            self.input.value = text

    def show_error(self, sentence: str) -> None:
        """Say what is wrong; nothing where nothing is."""
        if sentence != self._error:  # an update lays the whole screen out again
            self._error = sentence
            self.query_one(".error", Static).update(sentence)
            self.set_class(bool(sentence), "-wrong")

    def on_descendant_focus(self) -> None:
        """A mark stands before the field that is typed into."""
        self.query_one(Label).update(f"{self.field.label:<21}>", layout=False)

    def on_descendant_blur(self) -> None:
        """And nowhere else."""
        self.query_one(Label).update(self.field.label, layout=False)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Pass a change on."""
        event.stop()
        self._read(event.value)
        self.post_message(self.Typed(self.field.name, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Pass Enter on."""
        event.stop()
        self.post_message(self.Entered(self.field.name))

    def _read(self, text: str) -> None:
        """Show the number where it is written otherwise than typed."""
        from advisor.quantities.formatting import number  # loads what metrics are, which the first frame does not wait for

        try:
            value = self.field.read(text)
        except ValueError:
            value = None
        plain = "" if value is None else str(value) if isinstance(value, int) else number(value, trim=True)
        reading = f" = {plain} " if plain and plain != text.strip() else ""
        if reading != self._reading:
            self._reading = reading
            self.query_one(".reading", Static).update(reading)

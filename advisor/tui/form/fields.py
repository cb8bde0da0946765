"""The fields of the form: what each is called, its flag on the command line, and how what is typed into it is read. Knows no screen."""

from dataclasses import dataclass

from advisor.quantities.limits import LIMITS
from advisor.quantities.parsing import DEVICES, RATE, REQUESTS, TOKENS, Quantity

PREFERENCES = ("balanced", "latency", "throughput", "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing that a person may say. Left empty, it is not limited, or chosen for them."""

    name: str
    """Its name in a saved session; the parameter of `advisor plan`."""
    label: str
    flag: str | None = None
    """How `advisor plan` calls it; `None` for its argument."""
    quantity: Quantity | None = None
    """How numbers are read; `None` for words."""
    empty: str = ""
    """What an empty field means."""
    choices: tuple[str, ...] = ()
    """All that may stand in it, the usual one first."""
    shown: bool = True
    ranks_only: bool = False
    """Whether a change only ranks stacks anew, which is quick, and prices none."""

    def read(self, text: str) -> float | int | None:
        """The number that `text` stands for; `None` where the field is empty or holds words. Raises `ValueError` with what to type."""
        if not text.strip() or self.quantity is None:
            return None
        try:
            number = self.quantity.read(text)
        except ValueError as error:
            raise ValueError(f"{error}; type {self.quantity.example}, or nothing") from error
        return int(number) if self.quantity.whole else number


FIELDS = (
    Field(name="model", label="Model", empty="an id or a folder"),
    Field(name="hardware", label="Machine", flag="--hardware", empty="this one"),
    Field(name="devices", label="Devices", flag="--devices", quantity=DEVICES, empty="1, assumed"),
    Field(name="profile", label="Profile", flag="--profile", empty="auto", shown=False),
    Field(name="context", label="Context, tokens", flag="--context", quantity=TOKENS, empty="4k, assumed"),
    Field(name="prompt_tokens", label="Prompt, tokens", flag="--prompt-tokens", quantity=TOKENS, empty="1k, assumed"),
    Field(name="output_tokens", label="Answer, tokens", flag="--output-tokens", quantity=TOKENS, empty="256, assumed"),
    Field(name="shared_prefix", label="Shared prefix, tokens", flag="--shared-prefix", quantity=TOKENS, empty="none"),
    Field(name="concurrency", label="Requests at once", flag="--concurrency", quantity=REQUESTS, empty="1, assumed"),
    Field(name="request_rate", label="or requests/s", flag="--request-rate", quantity=RATE, empty="none"),
    Field(name="burst", label="or burst of, requests", flag="--burst", quantity=REQUESTS, empty="none"),
    Field(name="load_trace", label="or trace file", flag="--load-trace", empty="none"),
    *(
        Field(name=limit.parameter, label=limit.form_label, flag=limit.flag, quantity=limit.quantity, empty="no limit", ranks_only=True)
        for limit in LIMITS.values()
        if not limit.is_load
    ),
    Field(name="prefer", label="Prefer", flag="--prefer", choices=PREFERENCES, ranks_only=True),
)
BY_NAME = {field.name: field for field in FIELDS}
OF_LIMIT = {limit.name: limit.parameter for limit in LIMITS.values()} | {
    "context_tokens": "context",
    "concurrency": "concurrency",
    "devices": "devices",
}
"""What the planner calls a limit, or a number that was asked for, and the field that sets it."""
_OF_ERROR = {"model": "model", "hardware": "hardware", "profile": "hardware", "context-too-long": "context", "bad-trace": "load_trace"}
_KEYS = {
    "the hub was not asked": "Enter in the field asks the hub",
    "an id that `advisor models` lists": "an id; Esc and 0 list them",
    "advisor hardware   lists every id": "Esc and m list every machine",
    "advisor profile list   lists the stored ones": "Esc and m list the stored ones",
    "name the nearest device with --hardware ID": "name the nearest device in Machine",
}
"""What the command line says, and the keys that do it here."""


def field_of_error(code: str, message: str, help: tuple[str, ...] = ()) -> str | None:
    """The field to correct after an error of the planner: by the error's code, else by the first flag that is named."""
    for start, name in _OF_ERROR.items():
        if code.startswith(start):
            return name
    for text in (message, *help):
        named = [(place, field.name) for field in FIELDS if field.flag and (place := text.find(field.flag)) >= 0]
        if named:
            return min(named)[1]
    return None


def in_form_words(text: str) -> str:
    """A sentence of the command line with the form's labels in place of flags, and keys in place of commands."""
    for command, keys in _KEYS.items():
        text = text.replace(command, keys)
    for field in sorted(FIELDS, key=lambda field: -len(field.flag or "")):
        if field.flag:
            text = text.replace(field.flag, field.label.split(",")[0])
    return text

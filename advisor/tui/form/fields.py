"""The fields of the form: labels, flags of the command line, and how their texts are read. Imports no Textual."""

from dataclasses import dataclass

from advisor.profiles.choices import Prefer, UseCase
from advisor.quantities.limits import LIMITS
from advisor.quantities.parsing import DEVICES, RATE, REQUESTS, TOKENS, Quantity

USE_CASES = tuple(use_case.value for use_case in UseCase)
PREFERENCES = (Prefer.BALANCED.value, *(prefer.value for prefer in Prefer if prefer is not Prefer.BALANCED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of the form. An empty one is no limit, or a value that the planner chooses."""

    name: str
    """Name in the saved state; parameter of `advisor plan`."""
    label: str
    flag: str | None = None
    """Option of `advisor plan`; `None` for its argument."""
    quantity: Quantity | None = None
    """How a number is read; `None` for a field of words."""
    empty: str = ""
    """Meaning of an empty field."""
    choices: tuple[str, ...] = ()
    """Values to choose from, the default first."""
    in_question: str = ""
    """Its field of `PlanQuestion`, where that has another name."""
    shown: bool = True
    ranks_only: bool = False
    """Whether a change only ranks priced stacks again, which is quick."""

    @property
    def question_field(self) -> str:
        """Its field of `PlanQuestion`, as errors name it."""
        return self.in_question or self.name

    @property
    def short_label(self) -> str:
        """The label without its unit, for sentences."""
        return self.label.split(",")[0].removeprefix("or ").removesuffix(" of")

    def read(self, text: str) -> float | int | None:
        """The number in `text`; `None` for an empty field and for a field of words. Raises `ValueError` with what to type."""
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
    Field(name="context", in_question="context_tokens", label="Context, tokens", flag="--context", quantity=TOKENS, empty="4k, assumed"),
    Field(name="prompt_tokens", label="Prompt, tokens", flag="--prompt-tokens", quantity=TOKENS, empty="1k, assumed"),
    Field(name="output_tokens", label="Output, tokens", flag="--output-tokens", quantity=TOKENS, empty="256, assumed"),
    Field(
        name="shared_prefix",
        in_question="shared_prefix_tokens",
        label="Shared prefix, tokens",
        flag="--shared-prefix",
        quantity=TOKENS,
        empty="none",
    ),
    Field(name="concurrency", label="Concurrency", flag="--concurrency", quantity=REQUESTS, empty="1, assumed"),
    Field(name="request_rate", in_question="request_rate_per_s", label="or requests/s", flag="--request-rate", quantity=RATE, empty="none"),
    Field(name="burst", label="or burst of, requests", flag="--burst", quantity=REQUESTS, empty="none"),
    Field(name="load_trace", in_question="trace", label="or trace file", flag="--load-trace", empty="none"),
    *(
        Field(
            name=limit.parameter,
            in_question=limit.name,
            label=limit.form_label,
            flag=limit.flag,
            quantity=limit.quantity,
            empty="no limit",
            ranks_only=True,
        )
        for limit in LIMITS.values()
        if not limit.is_load
    ),
    Field(name="use_case", label="Use case", flag="--use-case", choices=USE_CASES),
    Field(name="prefer", label="Prefer", flag="--prefer", choices=PREFERENCES, ranks_only=True),
)
BY_NAME = {field.name: field for field in FIELDS}
OF_LIMIT = {limit.name: limit.parameter for limit in LIMITS.values()} | {
    "context_tokens": "context",
    "concurrency": "concurrency",
    "devices": "devices",
}
"""By name of a limit or of a number of the request, the field that sets it."""
FIELD_OF_QUESTION = {field.question_field: field for field in FIELDS} | {"profile": BY_NAME["hardware"]}
"""By field of `PlanQuestion` or `Limits`, as errors name it, the field of the form; a profile is chosen as a machine."""

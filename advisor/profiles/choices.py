"""Values that a request chooses from. Imports no pydantic, so that the front ends list them before the planner is loaded."""

from enum import StrEnum


class UseCase(StrEnum):
    """What the requests ask for. It decides how predictable the outputs are, and so how many draft tokens are accepted."""

    UNKNOWN = "unknown"
    """Nothing is assumed: draft tokens are accepted as on the least predictable text."""
    CHAT = "chat"
    CODE = "code"
    """Code that is edited or continued, with the old code in the prompt."""
    SUMMARIES = "summaries"
    RETRIEVAL = "retrieval"
    """Answers from documents in the prompt (RAG)."""
    EXTRACTION = "extraction"
    """Parts of the prompt copied into a given form."""


class Prefer(StrEnum):
    """The objective by which feasible plans are ranked."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    MEMORY = "memory"
    BALANCED = "balanced"

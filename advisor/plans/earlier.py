"""Plans from before chunked prefill was a technique of its own: what their `batching-continuous` with a `token_budget` did."""

from advisor.plans.decision import TechniqueChoice
from advisor.plans.file import PlanFile, request_of

EARLIER, OPTION = "batching-continuous", "token_budget"


def is_chunked(plan: PlanFile) -> bool:
    """Whether the plan cuts prompts into chunks. An earlier one does not say: it did where a prompt was longer than its step.

    Raises `AdvisorError` for limits that contradict each other.
    """
    batching = plan.apply.batching
    if batching.chunked_prefill is not None:
        return batching.chunked_prefill
    if not any(_is_earlier(chosen) for chosen in plan.apply.techniques) or not batching.max_batched_tokens:
        return True
    drafts = plan.apply.speculative.draft_tokens if plan.apply.speculative else 0
    positions = batching.max_num_seqs * (drafts + 1)
    return request_of(plan).workload.longest_prompt_tokens + positions > batching.max_batched_tokens


def technique_choices(plan: PlanFile) -> tuple[TechniqueChoice, ...]:
    """The techniques of a plan by the names that they have now."""
    return tuple(_renamed(plan, chosen) if _is_earlier(chosen) else chosen for chosen in plan.apply.techniques)


def _is_earlier(chosen: TechniqueChoice) -> bool:
    return chosen.name == EARLIER and OPTION in chosen.options


def _renamed(plan: PlanFile, chosen: TechniqueChoice) -> TechniqueChoice:
    if is_chunked(plan):
        return TechniqueChoice(name="batching-chunked-prefill", options=chosen.options)
    return TechniqueChoice(name=EARLIER, options={"step_tokens": chosen.options[OPTION]})

"""What `advisor plan` asks for some words, without planning."""

from advisor.cli.limit_options import read_limits
from advisor.cli.load_options import read_load
from advisor.cli.plan import command, question_of
from advisor.cli.profile_choice import read_model_and_profile
from advisor.planning.question import PlanQuestion


def typed_question(*words: str) -> PlanQuestion:
    """The question of the command line `advisor plan WORDS`, environment variables included."""
    with command.make_context("plan", list(words), auto_envvar_prefix="ADVISOR_PLAN") as context:
        options = read_limits(read_load(context.params))
    return question_of(read_model_and_profile(options["model"] or options["model_option"], options["profile"]), options)

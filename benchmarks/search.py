"""Price and rank every stack of one model on a machine of eight devices, then plan again with changed limits.

Prints, as JSON, how many stacks there are, how many closed forms were computed for them, and the least processor seconds of some
repeats: of the search (every stack built, priced and ranked), of the answer after it (finalists simulated, reasons computed), and of an
answer to a changed limit, first and once its finalists are known; and of answers to another number of requests in flight and to
another length of prompts, for which everything is priced again.

    python benchmarks/search.py [--model meta-llama/Meta-Llama-3.1-8B] [--hardware h100-sxm] [--devices 8] [--repeats 5]
"""

import argparse
import json
import time
from collections.abc import Callable

from advisor.planning.advise import advise, price_all
from advisor.planning.planner import Planner
from advisor.planning.question import PlanQuestion, request_for
from advisor.planning.ranking import evaluate
from advisor.planning.target import planner_for, resolve_target
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import GIB
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Limits, Request


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="meta-llama/Meta-Llama-3.1-8B")
    parser.add_argument("--hardware", default="h100-sxm")
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    question = PlanQuestion(
        model=arguments.model,
        hardware=arguments.hardware,
        devices=arguments.devices,
        concurrency=arguments.concurrency,
        profile="none",
        limits=Limits(tpot_ms_p95=10),
    )
    runs = [_run(question) for _ in range(arguments.repeats)]
    best = {name: round(min(run[name] for run in runs), 4) for name in runs[0]}
    print(json.dumps({"model": arguments.model, "hardware": arguments.hardware, "devices": arguments.devices} | best, indent=2))


def _run(question: PlanQuestion) -> dict[str, float]:
    """One planner from scratch."""
    model, engine = find_model(question.model), load_engine(question.engine)
    planner = planner_for(model, resolve_target(question.hardware, question.profile, engine), engine)
    request = request_for(question, model)
    search_s = _seconds(lambda: _ranked(planner, request))
    answer_s = _seconds(lambda: advise(planner, request))
    changed = request.model_copy(update={"limits": request.limits.model_copy(update={"tpot_ms_p95": 7.0})})
    replan_s = _seconds(lambda: advise(planner, changed))
    workload = request.workload
    crowded = request.model_copy(update={"workload": workload.model_copy(update={"concurrency": 2 * (workload.concurrency or 1)})})
    longer = request.model_copy(update={"workload": workload.model_copy(update={"prompt_tokens": 2 * workload.prompt_tokens})})
    return {
        "stacks": len(price_all(planner, request).stacks),
        "closed_forms": price_all(planner, request).closed_forms,
        "search_s": search_s,
        "search_s_per_20000": search_s * 20_000 / len(price_all(planner, request).stacks),
        "answer_s": answer_s,
        "changed_limit_s": replan_s,
        "changed_limit_again_s": _seconds(lambda: advise(planner, changed)),
        "changed_concurrency_s": _seconds(lambda: advise(planner, crowded)),
        "changed_prompt_s": _seconds(lambda: advise(planner, longer)),
    }


def _ranked(planner: Planner, request: Request) -> int:
    verdicts = evaluate(price_all(planner, request).columns, request, planner.estimator.memory.budget_bytes / GIB)
    return int(verdicts.order[0])


def _seconds(work: Callable[[], object]) -> float:
    """Processor seconds, which other programs disturb less than the clock."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()

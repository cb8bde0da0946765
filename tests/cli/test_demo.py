from pathlib import Path

import pytest

from advisor.backends.technique import Slot
from advisor.backends.techniques import by_name
from advisor.cli.demo_run import MODEL, REQUEST, ladder_request, plan_demo, run_demo
from advisor.planning.search import search
from advisor.planning.target import resolve_target
from advisor.profiles.engines import load_engine
from advisor.profiles.errors import AdvisorError
from advisor.profiles.model_store import find_model


def test_a_folder_that_cannot_be_written_is_an_error_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    said: list[object] = []
    with pytest.raises(AdvisorError) as caught:
        run_demo(tmp_path / "file" / "out", said.append, said.append)
    assert (caught.value.code, said) == ("not-writable", [])


def test_the_demonstration_has_stacks_to_choose_from_with_a_technique_in_most_slots() -> None:
    model = find_model(MODEL)
    request = ladder_request(model)
    slots = {by_name(name).slot for name in request.require}
    assert slots >= {Slot.WEIGHTS, Slot.ATTENTION, Slot.KV_LAYOUT, Slot.KV_FORMAT, Slot.DECODING, Slot.BATCHING}
    assert any(True for _ in search(model, request, "advisor"))


def test_the_advice_that_the_demonstration_shows_has_the_id_of_its_plan_file() -> None:
    engine = load_engine("advisor")
    advice, plan = plan_demo(find_model(MODEL), resolve_target("rtx-4090", "none", engine), engine, REQUEST)
    assert advice.chosen.id == plan.id == advice.ranked[0].id

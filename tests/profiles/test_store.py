from datetime import UTC, datetime
from pathlib import Path

import pytest

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.hardware import load_hardware
from advisor.profiles.machine import AttentionPoint, GemmPoint, MachineProfile, RuntimeOverheads, parse_table
from advisor.profiles.store import (
    check_name,
    check_writable,
    fresh_profile,
    list_profiles,
    load_profile,
    profile_yaml,
    profiles_folder,
    remove_profile,
    save_profile,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def _profile(name: str = "lab", fingerprint: str = "cpu:x*2", taken: str = "2026-11-20T08:30:00Z", points: int = 3) -> MachineProfile:
    return MachineProfile(
        name=name,
        hardware=load_hardware("t4"),
        fingerprint=fingerprint,
        taken=taken,
        threads=2,
        shared=False,
        copy_bytes_per_s=1.1e10,
        read_bytes_per_s=1.7e10,
        launch_s=2.5e-6,
        gemm=tuple(
            GemmPoint(format="int4-g128", m=i + 1, n=576, k=1536, working_set_bytes=1 << 25, seconds=1.1e-5 * (i + 1))
            for i in range(points)
        ),
        attention=tuple(
            AttentionPoint(
                implementation="sdpa",
                layout="paged",
                kv_format="int8",
                phase="decode",
                batch=8,
                q_tokens=1,
                kv_tokens=64 * (i + 1),
                q_heads=16,
                kv_heads=8,
                head_dim=64,
                seconds=3e-5 / (i + 1),
            )
            for i in range(points)
        ),
        runtime=RuntimeOverheads(step_s=1e-4, layer_s=2e-5, sequence_s=3e-6, element_s=4e-10),
        residual_pct=4.2,
        environment={"torch": "2.13.0+cpu", "odd": "no", "date": "2026-11-22"},
    )


def test_a_saved_profile_comes_back_unchanged() -> None:
    path = save_profile(_profile())
    assert path == profiles_folder() / "lab.yaml"
    assert load_profile("lab") == _profile()
    assert load_profile(path) == load_profile(str(path)) == _profile()


def test_a_profile_without_points_comes_back_unchanged() -> None:
    save_profile(_profile(points=0))
    assert load_profile("lab") == _profile(points=0)


def test_a_changed_point_changes_one_line() -> None:
    old = profile_yaml(_profile()).splitlines()
    first = _profile().gemm[0]
    changed = _profile().model_copy(update={"gemm": (first.model_copy(update={"seconds": 1.2e-5}), *_profile().gemm[1:])})
    new = profile_yaml(changed).splitlines()
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 1


def test_points_may_also_stand_as_ordinary_yaml(tmp_path: Path) -> None:
    text = profile_yaml(_profile(points=0))
    head = text[: text.index("gemm: |")]
    path = tmp_path / "flow.yaml"
    path.write_text(head + "gemm:\n- {format: bf16, m: 1, n: 2, k: 3, working_set_bytes: 4, seconds: 0.5}\nattention: []\n")
    assert load_profile(path).gemm == (GemmPoint(format="bf16", m=1, n=2, k=3, working_set_bytes=4, seconds=0.5),)


def test_a_short_row_is_named() -> None:
    with pytest.raises(ValueError, match="row 2 has 1 values for 2 columns"):
        parse_table("a b\n1 2\n3\n")


@pytest.mark.parametrize("name", ["now", "auto", "none", "", "Lab", "-lab", "a/b", "../lab", "lab.yaml", "gpt_2", "lab\n"])
def test_a_name_that_could_be_taken_for_something_else_is_refused(name: str) -> None:
    with pytest.raises(AdvisorError) as caught:
        check_name(name)
    assert caught.value.exit_code is ExitCode.USAGE
    with pytest.raises(AdvisorError):
        save_profile(_profile(name=name))
    assert not profiles_folder().exists()


def test_profiles_are_listed_by_name_and_a_broken_one_hides_no_other() -> None:
    save_profile(_profile("b"))
    save_profile(_profile("a"))
    (profiles_folder() / "c.yaml").write_text("kind: [\n")
    assert [(stored.name, stored.hardware) for stored in list_profiles()] == [("a", "T4"), ("b", "T4")]


def test_a_folder_that_cannot_be_made_is_reported_before_anything_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable()
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(AdvisorError) as caught:
        check_writable()
    assert (caught.value.code, caught.value.exit_code) == ("not-writable", ExitCode.FAILED)


def test_what_is_no_profile_is_reported_in_our_words(tmp_path: Path) -> None:
    for text, says in (("just a sentence\n", "expected a mapping"), ("kind: Plan\n", "'MachineProfile'")):
        (tmp_path / "other.yaml").write_text(text)
        with pytest.raises(AdvisorError, match=says):
            load_profile(tmp_path / "other.yaml")


def test_a_removed_profile_is_gone_and_cannot_be_removed_twice() -> None:
    save_profile(_profile())
    remove_profile("lab")
    assert list_profiles() == ()
    with pytest.raises(AdvisorError) as caught:
        remove_profile("lab")
    assert caught.value.code == "profile-not-found"


def test_a_missing_profile_names_its_neighbour() -> None:
    save_profile(_profile("h200-lab"))
    with pytest.raises(AdvisorError) as caught:
        load_profile("h20-lab")
    assert (caught.value.code, caught.value.exit_code) == ("profile-not-found", ExitCode.MISSING)
    assert "h200-lab" in caught.value.help[0]


def test_a_wrong_figure_is_named_with_its_position() -> None:
    path = save_profile(_profile())
    path.write_text(path.read_text().replace("1.1e-05", "-1"))
    with pytest.raises(AdvisorError) as caught:
        load_profile("lab")
    assert caught.value.code == "bad-profile"
    assert "gemm.0.seconds" in caught.value.message


@pytest.mark.parametrize("taken", ["2026-13-45T00:00:00Z", "2026-11-22", "yesterday"])
def test_a_profile_needs_a_real_time(taken: str) -> None:
    with pytest.raises(ValueError, match="taken"):
        _profile(taken=taken)


def test_the_newest_profile_of_this_machine_is_the_fresh_one() -> None:
    save_profile(_profile("old", taken="2026-11-01T00:00:00Z"))
    save_profile(_profile("new", taken="2026-11-21T00:00:00Z"))
    save_profile(_profile("other", fingerprint="cpu:y*2", taken="2026-11-22T00:00:00Z"))
    profile = fresh_profile("cpu:x*2", NOW)
    assert profile is not None
    assert profile.name == "new"


def test_a_profile_of_thirty_days_ago_is_no_longer_fresh() -> None:
    save_profile(_profile(taken="2026-10-23T12:00:00Z"))
    assert fresh_profile("cpu:x*2", NOW) is None
    save_profile(_profile(taken="2026-10-23T12:00:01Z"))
    assert fresh_profile("cpu:x*2", NOW) is not None


def test_a_fresh_machine_has_no_profile_and_no_folder() -> None:
    assert fresh_profile("cpu:x*2", NOW) is None
    assert not profiles_folder().exists()


def test_profiles_live_at_home_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME")
    assert profiles_folder() == Path.home() / ".local" / "share" / "advisor" / "profiles"

"""The page is made from a canned run: its form and completeness are tested, its numbers were never measured."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.backends.measure.spread import quantile
from advisor.profiles.errors import AdvisorError
from advisor.profiles.metrics import Basis, Metrics, Sample, Value
from advisor.profiles.run import Run, Rung, RungStatus
from advisor.quantities.formatting import number, scale
from advisor.quantities.metrics import METRICS
from advisor.rendering.html.elements import Markup, tag
from advisor.rendering.html.plots import Row, _Axis, ladder_plot, log_ticks, scatter_plot, ticks
from advisor.rendering.html.run_page import STYLE, report_html, write_report
from tests.paths import ROOT

RUN = Run.model_validate_json((ROOT / "tests/canned/run.json").read_text(encoding="utf-8"))
PAGE = report_html(RUN)
PHONE = """<body><iframe src="page.html" style="width:390px;height:900px;border:0"></iframe><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument, window_width = page.documentElement.clientWidth;
  const cells = [...page.querySelectorAll("td.at-error, td.at-verdict")];
  const in_sight = cells.filter(cell => {
    const box = cell.getBoundingClientRect(), around = cell.closest(".scroll").getBoundingClientRect();
    return box.left >= around.left - 1 && box.right <= Math.min(around.right, window_width) + 1;
  });
  const result = document.createElement("pre");
  result.id = "measured";
  result.textContent = `${in_sight.length} of ${cells.length}, page ${page.documentElement.scrollWidth} of ${window_width}`;
  document.body.append(result);
};
</script></body>"""
"""Shows the page in a frame as wide as a phone, and writes how many of its errors and verdicts are in sight."""
VOID = {"meta", "br", "link", "img", "hr", "input"}
REFERENCES = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "background"}


class Reader(HTMLParser):
    """Checks balance and collects what a page shows and refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in REFERENCES]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.texts.append(data.strip())


def test_page_is_balanced_and_its_ids_are_unique() -> None:
    reader = Reader(PAGE)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))


def test_page_refers_to_nothing_outside_and_runs_no_script() -> None:
    reader = Reader(PAGE)
    assert reader.references == []
    assert "script" not in reader.tags
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)|\son[a-z]+=", PAGE)
    assert "default-src 'none'" in PAGE


def test_every_number_of_the_run_stands_on_the_page() -> None:
    cells = set(Reader(PAGE).texts)
    for rung in RUN.rungs:
        assert rung.measured is not None
        for name in METRICS:
            predicted, measured = getattr(rung.predicted, name), getattr(rung.measured, name)
            pair = [value for value in (predicted, measured) if value]
            scaled = scale(METRICS[name].unit, (value.value for value in pair))
            for value in pair:
                assert number(value.value * scaled.factor) in cells, f"{rung.name} {name}"
                if value.low < value.high:
                    ends = f"[{number(value.low * scaled.factor)}, {number(value.high * scaled.factor)}]"
                    assert ends in cells, f"{rung.name} {name} {ends}"
        for sample in rung.samples:
            assert sample.tpot_ms is not None
            assert {number(sample.ttft_ms), number(sample.tpot_ms), str(sample.prompt_tokens)} <= cells
    for fact in ("2.13.0", "cpu:canned*1/cores2", "0123abc", "Canned CPU, 2 cores"):
        assert fact in cells


def test_misses_are_said_at_the_top() -> None:
    top = PAGE.split("<section>")[0]
    assert "Limit missed by the full stack: TPOT p95 18.8 ms, limit 18 ms." in top
    assert "65 of 71 measured values lie within their predicted range." in top
    assert "decode-draft, outside the predicted range: TPOT mean 15.7 ms, predicted 9.80 ms; Throughput 349 tok/s" in top
    assert "Likely cause: acceptance of proposed tokens was 34.0 %" in top


def test_failed_rung_is_said_plainly() -> None:
    failed = RUN.rungs[-1].model_copy(
        update={"status": RungStatus.OUT_OF_MEMORY, "measured": None, "samples": (), "error": "killed at 1.2 GiB"}
    )
    page = report_html(RUN.model_copy(update={"rungs": (*RUN.rungs[:-1], failed)}))
    assert "decode-draft: out-of-memory: killed at 1.2 GiB" in page
    assert Reader(page).open == []


def test_svg_is_well_formed_and_described() -> None:
    pictures = re.findall(r"<svg.*?</svg>", PAGE, flags=re.DOTALL)
    assert len(pictures) == 6 + 3 + 2 + 1, "ladders, scatters, distributions, memory"
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        title, description = root.find("title"), root.find("desc")
        assert title is not None
        assert description is not None
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        _, _, width, height = (float(part) for part in (root.get("viewBox") or "").split())
        for circle in root.iter("circle"):
            assert 0 <= float(circle.get("cx") or -1) <= width
            assert 0 <= float(circle.get("cy") or -1) <= height


def test_every_figure_has_a_table() -> None:
    for figure in re.findall(r"<figure>.*?</figure>", PAGE, flags=re.DOTALL):
        assert "<table>" in figure


def test_data_is_escaped() -> None:
    nasty = '</title><script>alert("x")</script>&<img src=x onerror=1>'
    rung = RUN.rungs[0].model_copy(update={"name": nasty, "error": nasty, "status": RungStatus.FAILED})
    machine = RUN.environment.model_copy(update={"device": nasty, "packages": {nasty: nasty}})
    run = RUN.model_copy(update={"title": nasty, "model": nasty, "rungs": (rung, *RUN.rungs[1:]), "environment": machine})
    reader = Reader(report_html(run))
    assert reader.open == []
    assert not {"script", "img"} & set(reader.tags)
    assert any(nasty in text for text in reader.texts)


def test_command_asks_the_same_question() -> None:
    text = "\n".join(Reader(PAGE).texts)
    assert (
        "advisor plan canned/llama-5m --context 288 --prompt-tokens 256 --output-tokens 32 --concurrency 8 --ttft-ms 300 --tpot-ms 18"
        " --memory-gib 1 --quality-loss 1 --prefer balanced -o plan.yaml" in text
    )
    assert "advisor apply plan.yaml --out run" in text


def test_page_is_the_same_for_the_same_run_and_is_written_whole(tmp_path: Path) -> None:
    path = write_report(RUN, tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8") == PAGE
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_report_to_an_impossible_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(AdvisorError) as caught:
        write_report(RUN, tmp_path / "file" / "report.html")
    assert caught.value.code == "not-writable"


def test_markup_escapes_what_is_not_markup() -> None:
    assert tag("b", "<i>", Markup("<i></i>"), class_='"') == '<b class="&quot;">&lt;i&gt;<i></i></b>'


def test_ticks_are_round_and_reach_the_end() -> None:
    assert ticks(438) == [0, 100, 200, 300, 400, 500]
    assert ticks(0) == [0, 1]
    assert min(_Axis(10.0, 9.9999).ticks) <= 8.0, "nearly equal numbers must look nearly equal"
    assert log_ticks(80, 600) == [100, 200, 500]


def test_quantiles_lie_between_neighbours() -> None:
    assert quantile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.5
    assert quantile([7.0], 0.95) == 7.0


FLOATS = st.one_of(st.floats(0, 1e300), st.sampled_from([0.0, 5e-324, 1e-300, 1e300, -1e300]), st.floats(-1e6, 1e6))


@st.composite
def values(draw: st.DrawFn) -> Value:
    low, middle, high = sorted(draw(st.tuples(FLOATS, FLOATS, FLOATS)))
    return Value(value=middle, low=low, high=high, basis=draw(st.sampled_from(list(Basis))))


any_metrics = st.dictionaries(st.sampled_from(list(Metrics.model_fields)), values(), max_size=8).map(lambda fields: Metrics(**fields))
any_sample = st.builds(
    Sample,
    prompt_tokens=st.integers(1, 10**9),
    output_tokens=st.integers(1, 3),
    submitted_s=st.floats(-1e9, 1e9),
    first_token_s=st.floats(-1e300, 1e300),
    last_token_s=st.floats(-1e300, 1e300),
)
any_rung = st.builds(
    Rung,
    name=st.text(max_size=40),
    techniques=st.just(()),
    status=st.sampled_from(list(RungStatus)),
    predicted=any_metrics,
    measured=st.none() | any_metrics,
    samples=st.lists(any_sample, max_size=3).map(tuple),
    error=st.none() | st.text(max_size=20),
    seconds=st.none() | st.floats(0, 1e300),
)


@given(st.lists(any_rung, max_size=4))
def test_no_run_is_too_odd_for_a_page(rungs: list[Rung]) -> None:
    page = report_html(RUN.model_copy(update={"rungs": tuple(rungs)}))
    assert Reader(page).open == []
    coordinates = re.findall(r' (?:c?[xy][12]?|width|height|points)="([^"]*)"', page)
    assert not [text for text in coordinates if "nan" in text or "inf" in text]


@settings(deadline=None)
@given(st.lists(st.tuples(values(), values()), max_size=5))
def test_no_plot_draws_outside_its_frame(pairs: list[tuple[Value, Value]]) -> None:
    rows = [Row("rung", predicted, measured) for predicted, measured in pairs]
    scaled = scale("ms", (value.value for pair in pairs for value in pair))
    for picture in (ladder_plot("TPOT", rows, scaled), scatter_plot("TPOT", rows, scaled)):
        for x in re.findall(r' c?x[12]?="([^"]*)"', picture):
            assert -1 <= float(x) <= 520, picture


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_renders_in_a_browser(tmp_path: Path, scheme: str) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    page, picture = write_report(RUN, tmp_path / "report.html"), tmp_path / "page.png"
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}", "--window-size=1280,2000",
        f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}", f"--screenshot={picture}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert picture.stat().st_size > 50_000, "a blank page is a few kB"


def test_error_and_verdict_of_every_row_are_marked_to_stay_in_sight_on_a_phone() -> None:
    heads = re.findall(r"<thead>.*?</thead>", PAGE, re.DOTALL)
    bodies = re.findall(r"<tbody>.*?</tbody>", PAGE, re.DOTALL)
    with_verdict = [body for head, body in zip(heads, bodies, strict=True) if ">verdict<" in head]
    assert with_verdict
    for body in with_verdict:
        rows = body.count("<tr>")
        assert (body.count("at-error"), body.count("at-verdict")) == (rows, rows)
    narrow = STYLE.read_text(encoding="utf-8").partition("@media (max-width: 640px)")[2]
    assert re.search(r"\.at-error, \.at-verdict { position: sticky; background: ", narrow)


@pytest.mark.slow
def test_error_and_verdict_are_in_sight_in_a_window_of_390_pixels(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    (tmp_path / "page.html").write_text(PAGE.replace("<details>", "<details open>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(PHONE, encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}", "--allow-file-access-from-files",
        "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, timeout=120, text=True)
    measured = re.search(r'id="measured">(\d+) of (\d+), page (\d+) of (\d+)<', done.stdout)
    assert measured is not None, done.stdout
    in_sight, cells, page, window = map(int, measured.groups())
    assert in_sight == cells > 0
    assert page <= window

"""How text is drawn: colour, ASCII, widths, wrapping. The views are laid on top of this and tested for themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.rendering.text.style import MIN_WIDTH, Look, clip, flow, pad, shown_width, wrap

GLYPHS = {
    "◆": "*", "×": "x", "✓": "+", "–": "-", "−": "-", "·": ".", "█": "#", "▓": "=", "▒": "+", "░": ":", "┃": "|", "│": "|", "─": "-",
    "└": "+", "├": "|", "┤": "|", "●": "o", "…": "~", "µ": "u", "≤": "<", "≥": ">", "Δ": "d", "’": "'", "“": '"', "”": '"',
    "→": ">", "±": "~",
}  # fmt: skip


@pytest.mark.parametrize("glyph", GLYPHS)
def test_ascii_has_a_character_of_the_same_width_for_every_glyph(glyph: str) -> None:
    assert Look(ascii=True).finish([f"a{glyph}b"]) == f"a{GLYPHS[glyph]}b\n"
    assert Look().finish([f"a{glyph}b"]) == f"a{glyph}b\n"


def test_ascii_has_a_question_mark_for_what_it_does_not_know() -> None:
    assert Look(ascii=True).finish(["é模"]) == "??\n"


@given(st.text(max_size=80), st.booleans())
def test_a_finished_line_is_one_line_without_control_codes(text: str, colour: bool) -> None:
    finished = Look(colour=colour, ascii=True).finish([text])
    assert finished.endswith("\n")
    assert finished.isascii()
    assert "\n" not in finished[:-1]


def test_a_finished_line_has_no_trailing_blanks() -> None:
    assert Look().finish(["a  ", "", "b"]) == "a\n\nb\n"


def test_only_colours_survive_of_what_data_can_contain_and_only_in_colour() -> None:
    line = "\x1b[34mblue\x1b[0m \x1b[2Jgone \x07 \x9b \u202e"
    assert Look(colour=True).finish([line]) == "\x1b[34mblue\x1b[0m ?[2Jgone ? ? ?\n"
    assert Look().finish([line]) == "blue ?[2Jgone ? ? ?\n"


@pytest.mark.parametrize("tone", ["title", "dim", "good", "risk", "bad", "mark"])
def test_paint_adds_colour_and_no_width(tone: str) -> None:
    assert Look().paint("word", tone) == "word"
    painted = Look(colour=True).paint("word", tone)
    assert painted.startswith("\x1b[")
    assert painted.endswith("word\x1b[0m")
    assert shown_width(painted) == 4
    assert Look(colour=True).paint("", tone) == ""


def test_a_look_has_a_least_width() -> None:
    assert Look(3).columns == MIN_WIDTH
    assert Look(90).columns == 90


def test_wide_characters_take_two_columns_and_accents_none() -> None:
    assert shown_width("模型 a") == 6
    assert shown_width("e\u0301") == 1
    assert shown_width("\x1b[1mab\x1b[0m") == 2


def test_pad_fills_by_the_width_that_is_shown() -> None:
    assert pad("模", 4) == "模  "
    assert pad("模", 4, right=True) == "  模"
    assert pad("long", 2) == "long"


@pytest.mark.parametrize(("width", "text"), [(9, "a b 模型"), (8, "a b 模型"), (7, "a b 模…"), (2, "a…"), (1, "…"), (0, "")])
def test_clip_cuts_to_the_width_that_is_shown(width: int, text: str) -> None:
    assert clip("a  b\n模型", width) == text


@given(st.text(max_size=200), st.integers(20, 120))
def test_wrapped_text_loses_no_word(text: str, width: int) -> None:
    lines = wrap(text, Look(width))
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_wrap_keeps_a_number_with_its_unit_and_indents_by_the_first_words() -> None:
    assert wrap("TTFT p95 from 302 ms on", Look(20), first="limit  ") == ["limit  TTFT p95 from", "       302 ms on"]
    assert wrap("one two three four five", Look(20), rest="> ") == ["one two three four", "> five"]


def test_first_words_of_more_than_half_the_width_are_a_line_of_their_own() -> None:
    assert wrap("a word", Look(20), first="a long label of it ") == ["a long label of it", "  a word"]


def test_flow_puts_parts_on_as_few_lines_as_hold_them() -> None:
    assert flow(["one part", "another", "a third"], Look(20)) == ["one part  another", "a third"]

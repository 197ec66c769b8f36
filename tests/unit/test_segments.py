"""Chunks of a line: what a copied field may begin and end with."""

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from app.generation.segments import chunks, fold, pieces

_SAMPLES = ["HbA1c", "7.2", "1,234.5", "アレルギー", "ショック", "アムロジピン", "2型", "糖尿病", "mg/dL", "ﾍﾟﾆｼﾘﾝ", "。", " ",
            "\t", "👨‍👩‍👧", "が", "\"", "\\", "β", "１２", "ー", "・", "R8.3.4"]  # fmt: skip
lines = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n"), max_size=40),
    st.lists(st.sampled_from(_SAMPLES), max_size=12).map("".join),
)


@st.composite
def lines_with_mentions(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    line = draw(lines)
    edges = sorted(draw(st.sets(st.integers(0, len(line)), max_size=8)))
    return line, list(zip(edges[::2], edges[1::2], strict=False))


def texts(line: str, mentions: list[tuple[int, int]] | None = None) -> list[str]:
    return [line[start:end] for start, end in chunks(line, mentions or [])]


@settings(deadline=None, max_examples=60)
@given(lines_with_mentions())
def test_chunks_cover_the_line_in_order_and_never_divide_a_number_or_a_word(
    case: tuple[str, list[tuple[int, int]]],
) -> None:
    line, mentions = case
    found = chunks(line, mentions)
    assert "".join(line[start:end] for start, end in found) == line
    assert all(start < end for start, end in found)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
    cuts = {edge for chunk in found for edge in chunk}
    counted = {edge for start, _ in mentions if line[start - 1 : start] == "." for edge in (start - 1, start)}
    for undivided in re.finditer(r"(?<![0-9.,])[0-9]+(?:\.[0-9]+)*(?![0-9.,])|[A-Za-z]+", line):
        assert not (cuts - counted) & set(range(undivided.start() + 1, undivided.end()))
    # A mention is whole; at most it grows to the end of a number or a word.
    for start, end in mentions:
        inside = [c for c in found if c[0] <= start and end <= c[1]]
        assert inside or any(c[0] < start < c[1] for c in found)


@settings(deadline=None, max_examples=60)
@given(lines)
def test_folding_keeps_the_length_and_is_stable(line: str) -> None:
    folded = fold(line)
    assert len(folded) == len(line)
    assert fold(folded) == folded


@settings(deadline=None, max_examples=60)
@given(lines, lines)
def test_pieces_join_back(left: str, right: str) -> None:
    assert "".join(pieces(left)) == left
    # Where two chunks meet, the pieces of the parts are the pieces of the whole.
    line = left + right
    for start, _ in chunks(line):
        assert [*pieces(line[:start]), *pieces(line[start:])] == list(pieces(line))


def test_what_a_chunk_is() -> None:
    assert texts("WBC12,300 CRP 0.12") == ["WBC", "12,300", " ", "CRP", " ", "0.12"]
    assert texts("1,2型") == ["1", ",", "2", "型"]
    assert texts("248.6") == ["248.6"]
    assert texts("R8.3.4") == ["R", "8.3.4"]
    assert texts("糖尿病") == ["糖", "尿", "病"]
    assert texts("アムロジピンOD錠5mg") == ["アムロジピン", "OD", "錠", "5", "mg"]
    assert texts("γGTP") == ["γGTP"]


def test_allergy_and_shock_stand_for_themselves() -> None:
    assert texts("ペニシリンアレルギー") == ["ペニシリン", "アレルギー"]
    assert texts("ペニシリンショック") == ["ペニシリン", "ショック"]
    assert texts("アレルギーショック") == ["アレルギー", "ショック"]


def test_mentions_are_whole_chunks() -> None:
    assert texts("2型糖尿病あり", [(0, 5)]) == ["2型糖尿病", "あ", "り"]
    assert texts("HbA1c7.2", [(0, 5)]) == ["HbA1c", "7.2"]
    assert texts("父が2型糖尿病", [(2, 7)]) == ["父", "が", "2型糖尿病"]


def test_a_mention_that_would_divide_a_number_or_a_word_grows() -> None:
    assert texts("C3.5 mg", [(0, 2)]) == ["C3.5", " ", "mg"]
    assert texts("hsCRP 1", [(2, 5)]) == ["hsCRP", " ", "1"]


def test_fold_widens_kana_and_narrows_letters() -> None:
    assert fold("ＨｂＡ１ｃ　７．２％") == "HbA1c 7.2%"
    assert fold("ｱﾑﾛ") == "アムロ"
    assert fold("ﾍﾟ") == "ヘ\u309c"
    assert fold("①Ⅱ㎎") == "①Ⅱ㎎"
    assert fold("−‐–µ") == "---μ"


def test_a_number_that_counts_a_disease_is_not_its_digit() -> None:
    line = fold("２．肝硬変　３．２型糖尿病　HbA1c 7.2%")
    mentions = [(line.index("2型"), line.index("2型") + 5)]
    found = [line[start:end] for start, end in chunks(line, mentions)]
    assert "2型糖尿病" in found
    assert "7.2" in found
    assert chunks("2.5mg", [(2, 3)]) == [(0, 3), (3, 5)]

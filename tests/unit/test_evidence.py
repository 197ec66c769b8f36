"""Where a note is cut so that every piece knows whose evidence it is."""

from hypothesis import given
from hypothesis import strategies as st

from app.web.evidence import LINES_A_BLOCK, Mark, blocks, lines

TEXT = "𠮷田：糖尿病\r\n\nHbA1c 7.2%"


def test_a_piece_knows_all_whose_evidence_it_is() -> None:
    marks = [Mark(3, 6, "a", "name"), Mark(4, 6, "b", "name"), Mark(4, 6, "b", "onset")]
    line = lines(TEXT, marks)[0]
    assert [(piece.text, piece.items) for piece in line.pieces] == [
        ("𠮷田：", ()), ("糖", ("a",)), ("尿病", ("a", "b")), ("\r", ()),
    ]  # fmt: skip
    assert line.pieces[2].parts == ("a:name", "b:name", "b:onset")


def test_lines_say_where_they_begin_in_code_points() -> None:
    assert [line.start for line in lines(TEXT, [])] == [0, 8, 9]
    assert [TEXT[line.start :][:1] for line in lines(TEXT, [])] == ["𠮷", "\n", "H"]


def test_evidence_over_several_lines_is_marked_in_each() -> None:
    marked = [[piece.text for piece in line.pieces if piece.marks] for line in lines(TEXT, [Mark(3, 12, "a", "name")])]
    assert marked == [["糖尿病\r"], [], ["HbA"]]


def test_evidence_that_the_text_has_not_is_left_out() -> None:
    wrong = [Mark(5, 5, "a", "name"), Mark(-1, 3, "a", "name"), Mark(0, 99, "a", "name")]
    assert all(not piece.marks for line in lines(TEXT, wrong) for piece in line.pieces)


@given(st.text("ab\n𠮷", max_size=60), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12))
def test_nothing_is_lost_and_every_character_is_marked_as_asked(text: str, spans: list[tuple[int, int]]) -> None:
    marks = [Mark(start, end, str(n), "name") for n, (start, end) in enumerate(spans)]
    found = lines(text, marks)
    assert "\n".join("".join(piece.text for piece in line.pieces) for line in found) == text
    for line in found:
        place = line.start
        for piece in line.pieces:
            for offset in range(place, place + len(piece.text)):
                wanted = {m.item for m in marks if m.start <= offset < m.end <= len(text)}
                assert set(piece.items) == wanted
            place += len(piece.text)
    assert [line for block in blocks(text, marks) for line in block] == found
    assert all(0 < len(block) <= LINES_A_BLOCK for block in blocks(text, marks))

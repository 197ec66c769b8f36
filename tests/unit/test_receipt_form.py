"""What may be written about a claim: only what cites a line, a rule and a passage that are there."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.generation import receipt_form
from app.generation.grammar import PLAIN, check
from app.generation.receipt_form import Answer
from app.generation.segments import chunks, fold
from app.generation.structured import first_refused
from schemas.issue import Severity
from schemas.receipt import Advised, Block, Finding, Passage, Reason, Rule

HEAD = "男 54歳 入院外 2026年5月"
PASSAGE = Passage(
    note_id="n1", note_date=date(2026, 5, 7), start=10, end=31, quote="メトグルコ錠250mg 3錠分3 １４日分", says="処方・継続"
)
FINDING = Finding(
    rule=Rule.INDICATION, line=9, severity=Severity.WARNING, text="適応となる傷病名がない",
    reference="添付文書 効能又は効果", row="indications:1149019",
)  # fmt: skip
BLOCKS = (
    Block(line=7, text="医薬品 メトグルコ錠250mg 3錠 28日分", passages=(PASSAGE,)),
    Block(line=9, text="医薬品 ロキソニン錠60mg 3錠 7日分", comments=("頭痛時",), findings=(FINDING,)),
    Block(line=12, text="診療行為 HbA1c 1回"),
)
DAYS = Answer(0, Advised.CHANGE_COUNT, Reason.DAYS_DIFFER, "chart", "請求は28日分、カルテは14日分です。", 0, "3錠分3 １４日分")
DISEASE = Answer(1, Advised.ADD_DISEASE, Reason.DISEASE_MISSING_FOR_DRUG, "F1", "疼痛の傷病名を確かめてください。")
NOTHING = Answer(1, Advised.NO_CHANGE, Reason.JUSTIFIED, "F1", "コメントに理由があります。")


def grammar() -> str:
    return receipt_form.build(HEAD, BLOCKS, 0, PLAIN)


def refused(*answers: Answer) -> bool:
    return first_refused(grammar(), [receipt_form.written(HEAD, BLOCKS, answers)]) is not None


def test_what_may_be_written_is_read_again() -> None:
    text = receipt_form.written(HEAD, BLOCKS, [DAYS, DISEASE])
    check(grammar())
    assert first_refused(grammar(), [text]) is None
    answers, complete = receipt_form.read(text)
    assert complete
    assert answers[0].quote == "3錠分3 14日分" and answers[0].passage == 0 and answers[0].block == 0
    assert answers[1] == DISEASE


def test_an_answer_to_every_finding_is_asked_for_and_to_no_other_line() -> None:
    assert not refused(DISEASE)
    assert not refused(NOTHING)
    assert refused(), "the finding is left without an answer"
    assert refused(DISEASE, DISEASE, DISEASE), "more answers than a line may have"


@pytest.mark.parametrize(
    "wrong",
    [
        {"reference": "F2"},
        {"reference": "F1"},
        {"reference": "chart", "passage": None, "quote": None},
        {"passage": 1},
        {"quote": "3錠分3 28日分"},
        {"quote": "3錠分3 1"},
        {"block": 2},
        {"action": Advised.NO_CHANGE},
        {"comment": "診療行為160019410へ訂正してください。"},
        {"comment": "番号１２３４を確かめてください。"},
        {"comment": ""},
        {"comment": "あ" * 121},
        {"comment": '引用符"が入る。'},
    ],
)
def test_what_is_not_there_cannot_be_cited(wrong: dict[str, object]) -> None:
    """A finding of another line, no passage, another passage, words and halves of numbers that the chart does not have, a code."""
    changed = Answer(**{**vars(DAYS), **wrong})  # type: ignore[arg-type]
    text = receipt_form.written(HEAD, BLOCKS, [DAYS, DISEASE])
    whole = text.replace("".join(receipt_form.parts(DAYS)), "".join(receipt_form.parts(changed)))
    assert first_refused(grammar(), [text]) is None
    assert whole != text and first_refused(grammar(), [whole]) is not None


def test_the_probability_is_that_of_action_and_reason() -> None:
    text = receipt_form.written(HEAD, BLOCKS, [DISEASE])
    row = text.index('{"action"')
    choices = [(row + 3, -0.5), (row + 20, -0.25), (text.index("疼痛"), -9.0)]
    (answer,), _ = receipt_form.read(text, [(2, -7.0), *choices])
    assert answer.probability == pytest.approx(2.718281828 ** (-0.75))


def test_an_answer_that_was_cut_off_is_told() -> None:
    text = receipt_form.written(HEAD, BLOCKS, [DAYS, DISEASE])
    answers, complete = receipt_form.read(text[: text.index("疼痛")])
    assert answers[0].reason is Reason.DAYS_DIFFER and len(answers) == 1 and not complete


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1, max_size=50)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4), st.data())
def test_any_text_can_be_replayed_and_quoted(drawn: list[tuple[str, str]], data: st.DataObject) -> None:
    """Claims and charts hold quotation marks, backslashes, tabs, combining characters; the grammar holds them all."""
    blocks = [
        Block(line=n, text=text, passages=(PASSAGE.model_copy(update={"quote": quote, "end": 10 + len(quote)}),))
        for n, (text, quote) in enumerate(drawn)
    ]
    answers = []
    for number, (_, quote) in enumerate(drawn):
        parts = chunks(fold(quote))
        first = data.draw(st.integers(0, len(parts) - 1))
        last = data.draw(st.integers(first, len(parts) - 1))
        piece = quote[parts[first][0] : parts[last][1]]
        edges = fold(piece)[0] + fold(piece)[-1]
        if not any(char.isspace() or ord(char) < 32 or 127 <= ord(char) < 160 for char in edges):
            answers.append(Answer(number, Advised.DELETE_LINE, Reason.ACT_NOT_DONE, "chart", "行を確かめてください。", 0, piece))
    source = receipt_form.build(HEAD, blocks, 0, PLAIN)
    check(source)
    text = receipt_form.written(HEAD, blocks, answers)
    assert first_refused(source, [text]) is None
    read, complete = receipt_form.read(text)
    assert complete and [answer.quote for answer in read] == [fold(answer.quote or "") for answer in answers]

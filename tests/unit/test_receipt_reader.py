"""A claim through a model. Whatever the model is, what it advises cites lines, rules and characters that are there."""

from collections.abc import Iterator
from datetime import date

import pytest

from app.errors import InvalidInput, TooLong
from app.generation.llama import LlamaCpp
from app.generation.receipt_reader import ReceiptReader
from schemas.issue import Severity
from schemas.receipt import GENERAL, Advice, Advised, Block, Case, Finding, Passage, Rule

NOTE = "7) 内服はメトグルコ250mg 3錠分3 １４日分。\t咳嗽あり、肺炎疑いで胸部Xp。\n心エコーは次回に延期した。"


def passage(quote: str, says: str = "記載") -> Passage:
    start = NOTE.index(quote)
    return Passage(
        note_id="n1", note_date=date(2026, 5, 7), start=start, end=start + len(quote), quote=quote, says=says
    )


def finding(line: int, row: str) -> Finding:
    return Finding(
        rule=Rule.LIMIT, line=line, severity=Severity.ERROR, text="月1回を超える", reference="診療報酬点数表", row=row
    )


CASE = Case(
    head="男 54歳 入院外 2026年5月",
    blocks=(
        Block(line=4, text="傷病名 肺炎", passages=(passage("肺炎疑いで胸部Xp", "傷病名・疑い"),)),
        Block(line=5, text="診療行為 再診料 1回 7日"),
        Block(line=8, text="診療行為 心臓超音波検査 1回", findings=(finding(8, "limits:1"),), passages=(passage("心エコーは次回に延期した"),)),
        Block(
            line=9, text="医薬品 メトグルコ錠250mg 3錠 28日分", comments=("朝昼夕食後",),
            findings=(finding(9, "limits:2"), finding(9, "rule:count")),
            passages=(passage("7) 内服はメトグルコ250mg 3錠分3 １４日分", "処方"), passage("咳嗽あり")),
        ),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def reader(plain_model: LlamaCpp) -> ReceiptReader:
    return ReceiptReader(plain_model)


@pytest.fixture(scope="module")
def advised(reader: ReceiptReader) -> Iterator[list[list[Advice]]]:
    """What weights that learnt nothing write, at temperature 1."""
    yield [reader.advise(CASE, everything=seed % 2 == 1, temperature=1.0, seed=seed).advice for seed in range(6)]


def test_every_line_with_a_finding_is_answered(advised: list[list[Advice]]) -> None:
    for advice in advised:
        assert {8, 9} <= {one.line for one in advice}


def test_a_line_of_which_nothing_speaks_is_shown_only_when_everything_is(advised: list[list[Advice]]) -> None:
    assert not any(one.line == 5 for advice in advised[::2] for one in advice)
    assert any(one.line == 5 for advice in advised[1::2] for one in advice)


def test_nothing_is_cited_that_is_not_there(advised: list[list[Advice]]) -> None:
    rows = {block.line: {f.row for f in block.findings} for block in CASE.blocks}
    cited = 0
    for one in (one for advice in advised for one in advice):
        assert one.line in rows
        assert one.reference in rows[one.line] | set(GENERAL)
        assert one.evidence is not None or one.reference != "chart"
        if one.evidence is not None:
            cited += 1
            span = one.evidence.span
            assert one.evidence.note_id == "n1" and NOTE[span.start : span.end] == span.quote
        assert one.action is not Advised.NO_CHANGE or rows[one.line]
        assert one.probability is not None and 0 < one.probability <= 1
    assert cited > 5


def test_a_claim_that_does_not_fit_at_once_is_judged_in_parts(reader: ReceiptReader) -> None:
    many = Case(head=CASE.head, blocks=tuple(CASE.blocks[2].model_copy(update={"line": n}) for n in range(16)))
    advising = reader.advise(many)
    assert advising.windows > 1 and {one.line for one in advising.advice} == set(range(16))
    assert "parts" in advising.issues[0].text


def test_a_line_that_is_longer_than_the_context_is_refused(reader: ReceiptReader) -> None:
    long = CASE.blocks[2].model_copy(update={"text": "診" * 10_000})
    with pytest.raises(TooLong):
        reader.advise(Case(head=CASE.head, blocks=(long,)))


def test_nothing_to_judge_asks_no_model(reader: ReceiptReader) -> None:
    advising = reader.advise(Case(head=CASE.head, blocks=(CASE.blocks[1],)))
    assert advising.advice == [] and advising.windows == 0


def test_a_model_that_writes_another_form_is_refused(compact_model: LlamaCpp) -> None:
    """The shipped model reads notes; without its adapter it cannot judge receipts."""
    with pytest.raises(InvalidInput, match="form"):
        ReceiptReader(compact_model)


def test_what_it_was_made_with_is_told(reader: ReceiptReader) -> None:
    prints = reader.fingerprints.as_dict()
    assert prints["model"] and prints["prompt"] and prints["grammar"]

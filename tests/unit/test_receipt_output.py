"""The report of a claim file, and the claim file with what was decided, against the records' layout."""

import csv
import io
from datetime import UTC, date, datetime
from typing import Any

import pytest

from app.errors import InvalidInput
from app.receipt_output import COLUMNS, FREE_TEXT, WIDTH, Item, full_width, report_csv, with_comments
from app.receipts.uke import Claim, read_uke
from schemas.issue import Severity
from schemas.receipt import Advice, Advised, Cited, Edited, Finding, Reason, Rule
from schemas.statement import EvidenceSpan

DAYS = "," * 37


def line(kind: str, *fields: str) -> str:
    return ",".join((kind, *fields))


LINES = [
    "IR,1,12,1,0000000,,,202406,00,",  # 1
    "RE,1,1112,202406,検査　花子,2,19700101,,,,,,,00001",  # 2
    "HO,01130012,１,２,1,300",  # 3
    "SY,2500013,20240401,1,8002,,01,",  # 4
    "SI,12,1,112007410,,73,1" + DAYS,  # 5
    "IY,21,1,620004422,3,,14,,,,,,,14" + "," * 30,  # 6
    "IY,,1,620000402,3,20,14,,,,,,,14" + "," * 30,  # 7
    "SI,60,1,160010010,,49,1" + DAYS,  # 8
    "SJ,07,この患者は別途",  # 9
    "RE,2,1112,202406,検査　次郎,1,19700101",  # 10
    "SY,0000999,20240401,1,,腰の痛み,,",  # 11
    "GO,2,1000,99",  # 12
]
CONTENT = "".join(text + "\r\n" for text in LINES).encode("cp932")


def item(number: int, action: Advised, comment: str = "", *, state: str = "accepted", **edited: Any) -> Item:
    text = {4: "傷病名 2型糖尿病の疑い 2024年4月1日 主病", 11: "傷病名 腰の痛み 2024年4月1日"}.get(number, "")
    advice = Advice(line=number, action=action, reason=Reason.OTHER, reference="chart", comment=comment)
    changed = Edited(action=action, comment=comment, **edited) if edited or state == "edited" else None
    return Item(f"i{number}", 1, number, text, advice=advice, state=state, edited=changed)


def added(content: bytes) -> list[tuple[int, str]]:
    """New lines, each with the number that it has now."""
    old = set(LINES)
    return [(n, text) for n, text in enumerate(content.decode("cp932").splitlines(), 1) if text not in old]


def test_without_decisions_the_bytes_are_the_same() -> None:
    untouched = [
        item(8, Advised.ADD_COMMENT, "要る", state="open"), item(7, Advised.ADD_COMMENT, "要る", state="rejected"),
        item(6, Advised.CONFIRM, "主治医に確認してください"), item(5, Advised.DELETE_LINE),
    ]  # fmt: skip
    assert with_comments(CONTENT, untouched).content == CONTENT


def test_a_comment_ends_the_group_of_its_line() -> None:
    made = with_comments(CONTENT, [item(6, Advised.ADD_COMMENT, "HbA1c 7.2%のためﾒﾄﾎﾙﾐﾝ増量")])
    assert added(made.content) == [(8, f"CO,,1,{FREE_TEXT},ＨｂＡ１ｃ　７．２％のためメトホルミン増量")]
    assert (made.comments, made.changes, made.left) == (1, 0, ())
    claims = [part for part in read_uke(io.BytesIO(made.content)) if isinstance(part, Claim)]
    assert claims[0].faults == [] and claims[0].comments[0].group == claims[0].items[1].group
    assert claims[0].comments[0].section == "21"


def test_a_long_comment_goes_on_in_further_records_in_order() -> None:
    made = with_comments(CONTENT, [item(8, Advised.ADD_COMMENT, "あ" * WIDTH + "い" * 5), item(5, Advised.ADD_COMMENT, "再診")])
    assert [(n, text.split(",")[4]) for n, text in added(made.content)] == [(6, "再診"), (10, "あ" * WIDTH), (11, "い" * 5)]


def test_a_comment_on_a_disease_stands_behind_the_acts_and_names_it() -> None:
    comments = [
        item(8, Advised.ADD_COMMENT, "検査"), item(4, Advised.ADD_COMMENT, "経過観察中" + "。" * 38),
        item(11, Advised.ADD_COMMENT, "腰の痛みは軽快"),
    ]  # fmt: skip
    made = with_comments(CONTENT, comments)
    found = [text.split(",") for _, text in added(made.content)]
    assert [fields[1] for fields in found] == ["", "99", "", "99"]
    assert "".join(fields[4] for fields in found[1:3]) == "２型糖尿病の疑い：経過観察中" + "。" * 38
    assert found[3][4] == "腰の痛みは軽快"
    # The claim's 症状詳記 stays its last record; the second claim has no act, so the comment follows its disease.
    assert [n for n, _ in added(made.content)] == [9, 10, 11, 15]
    whole = next(part for part in read_uke(io.BytesIO(made.content)) if isinstance(part, Claim))
    assert [comment.section for comment in whole.comments] == ["60", "99", "99"]


@pytest.mark.parametrize("apply", [False, True])
def test_lines_are_changed_only_when_asked(apply: bool) -> None:
    decided = [
        item(4, Advised.CHANGE_CODE, code="2500015", modifiers=("4012",)),
        item(6, Advised.CHANGE_COUNT, count=7),
        item(5, Advised.DELETE_LINE),
        item(8, Advised.ADD_DISEASE, code="4019014", started=date(2024, 6, 3)),
        item(11, Advised.CHANGE_CODE, code="7245008"),
        Item("few", 1, 8, "", advice=Advice(line=8, action=Advised.CHANGE_CODE, reason=Reason.OTHER, reference="chart",
             comment=""), state="accepted"),
    ]  # fmt: skip
    made = with_comments(CONTENT, decided, apply=apply)
    if not apply:
        assert made.content == CONTENT and made.changes == 0
        return
    assert (made.changes, made.left) == (5, ("few",))
    first, second = (part for part in read_uke(io.BytesIO(made.content)) if isinstance(part, Claim))
    assert first.faults == second.faults == []
    assert [(d.code, d.modifiers, d.started) for d in first.diseases] == [
        ("2500015", ("4012",), date(2024, 4, 1)), ("4019014", (), date(2024, 6, 3)),
    ]  # fmt: skip
    assert [(i.code, i.times, i.days) for i in first.items] == [
        ("620004422", 7, {1: 7}), ("620000402", 7, {1: 7}), ("160010010", 1, {}),
    ]  # fmt: skip
    assert (second.diseases[0].code, second.diseases[0].name) == ("7245008", None)
    assert made.content.endswith((LINES[11] + "\r\n").encode())


def test_the_next_record_takes_over_the_section_of_a_deleted_one() -> None:
    made = with_comments(CONTENT, [item(6, Advised.DELETE_LINE)], apply=True)
    claim = next(part for part in read_uke(io.BytesIO(made.content)) if isinstance(part, Claim))
    assert [(i.code, i.section) for i in claim.items][1] == ("620000402", "21")


def test_what_the_file_cannot_hold_is_told_with_its_item() -> None:
    with pytest.raises(InvalidInput, match="item i8: character 3 "):
        with_comments(CONTENT, [item(8, Advised.ADD_COMMENT, "検査\U0001f600")])
    with pytest.raises(InvalidInput, match="item i6: drug: must be 9 digits"):
        with_comments(CONTENT, [item(6, Advised.CHANGE_CODE, code="2500013")], apply=True)
    assert full_width("a-1,\"~ ㎎−〜ｶﾞ") == "ａ－１，＂～　㎎－～ガ"


def test_the_table_has_a_row_an_item_and_no_formula() -> None:
    finding = Finding(rule=Rule.LIMIT, line=5, severity=Severity.WARNING, text="=1+1", reference="A001 再診料", row="limits:1")
    cited = Cited(note_id="n1", span=EvidenceSpan(start=0, end=2, quote="+腰"))
    advice = Advice(
        line=5, action=Advised.DELETE_LINE, reason=Reason.OVER_LIMIT, reference="limits:1", evidence=cited, comment="-2"
    )
    at = datetime(2026, 4, 1, tzinfo=UTC)
    rows = [
        Item("a", 7, 5, "診療行為 再診料 1回", finding, advice, "accepted", None, "user:x", at),
        Item("b", 7, 6, "@cmd", advice=advice.model_copy(update={"reference": "claims"})),
    ]
    written = "".join(report_csv(rows))
    assert written.encode().startswith(b"\xef\xbb\xbf") and written.endswith("\r\n")
    first, second = csv.DictReader(io.StringIO(written.removeprefix("\ufeff")))
    assert tuple(first) == COLUMNS
    assert (first["finding"], first["comment"], first["evidence"], second["line_text"]) == ("'=1+1", "'-2", "'+腰", "'@cmd")
    assert (first["origin"], first["rule"], first["reference"], first["claim"]) == ("rule+model", "limit", "A001 再診料", "7")
    assert (second["origin"], second["rule"], second["state"]) == ("model", "", "open")
    assert second["reference"].startswith("保険医療機関及び保険医療養担当規則")

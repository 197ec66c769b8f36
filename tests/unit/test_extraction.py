"""Which characters a written field stands for, when the same text stands in a line more than once."""


from hypothesis import given, settings
from hypothesis import strategies as st

from app.extraction import locate
from app.generation.form import Written
from app.generation.reader import source_lines as lines_of
from app.generation.segments import fold
from schemas.issue import Issue
from schemas.statement import FIELDS, AllergyCategory, Assertion, Field, Kind, Statement


def say(kind: Kind, line: int = 0, assertion: Assertion = Assertion.PRESENT, **fields: str) -> Written:
    return Written(line, kind, {Field(key): value for key, value in fields.items()}, assertion)


def lab(name: str, value: str | None = None, line: int = 0, **fields: str) -> Written:
    return say(Kind.LAB, line, name=name, **({"value": value} if value else {}), **fields)


def run(text: str, *written: Written) -> list[Statement]:
    statements, issues = locate(lines_of(text), written)
    assert not issues
    for statement in statements:
        for span in statement.fields.values():
            assert text[span.start : span.end] == span.quote
    return statements


def starts(text: str, *written: Written, field: Field = Field.VALUE) -> list[int]:
    return [s.fields[field].start for s in run(text, *written)]


def test_a_value_with_the_one_before_in_brackets() -> None:
    text = "HbA1c 7.2（前回 7.6）"
    found = run(text, lab("HbA1c", "7.2"), lab("HbA1c", "7.6"))
    assert [s.fields[Field.VALUE].start for s in found] == [6, 13]
    assert [s.name.start for s in found] == [0, 0]
    text = "HbA1c 7.2（前回 HbA1c 7.6）"
    assert [s.name.start for s in run(text, lab("HbA1c", "7.2"), lab("HbA1c", "7.6"))] == [0, 13]


def test_equal_values_of_one_line_are_each_used_once() -> None:
    assert starts("AST 20 ALT 20 LDH 20", lab("AST", "20"), lab("ALT", "20"), lab("LDH", "20")) == [4, 11, 18]
    assert starts("AST/ALT 20/20", lab("AST", "20"), lab("ALT", "20")) == [8, 11]
    assert starts("Na/K/Cl 140/4.0/102", lab("Na", "140"), lab("K", "4.0"), lab("Cl", "102")) == [8, 12, 16]
    assert starts("HbA1c 7.8→7.2→7.8", lab("HbA1c", "7.8"), lab("HbA1c", "7.2"), lab("HbA1c", "7.8")) == [6, 10, 14]


def test_table_rows() -> None:
    text = "項目 5/1 5/10\nCRP  0.3 0.3\nHb   12.1 11.0"
    found = run(text, lab("CRP", "0.3", 1, date="5/1"), lab("CRP", "0.3", 1, date="5/10"), lab("Hb", "11.0", 2, date="5/10"))
    assert [s.fields[Field.VALUE].start for s in found] == [17, 21, 35]
    # 5/1 is not the beginning of 5/10, wherever the columns stand.
    assert [s.fields[Field.DATE].start for s in found] == [3, 7, 7]
    text = "項目 5/10 5/1\nCRP 0.3"
    assert starts(text, lab("CRP", "0.3", 1, date="5/1"), field=Field.DATE) == [8]


def test_a_value_is_not_a_part_of_a_date_or_a_longer_number() -> None:
    assert starts("5/10 WBC 10", lab("WBC", "10")) == [9]
    assert starts("2024/7/2 CRP 7", lab("CRP", "7")) == [13]
    assert starts("Cre 11.2 K 1.2", lab("K", "1.2")) == [11]
    assert starts("K 14.1 Ca 4.1", lab("Ca", "4.1")) == [10]


def test_a_name_inside_another_word_is_not_meant() -> None:
    assert starts("hsCRP 0.1 CRP", lab("CRP"), field=Field.NAME) == [10]
    assert starts("hsCRP 0.1 CRP 0.3", lab("hsCRP", "0.1"), lab("CRP", "0.3"), field=Field.NAME) == [0, 10]
    assert starts("PAF、Af、AF", say(Kind.CONDITION, name="AF"), field=Field.NAME) == [7]
    # Nowhere whole: the part is better than nothing.
    assert starts("hsCRP 0.1", lab("CRP", "0.1"), field=Field.NAME) == [2]


def test_a_name_that_stands_twice_is_taken_in_order() -> None:
    text = "胃癌、胃癌術後"
    found = run(
        text, say(Kind.CONDITION, name="胃癌"), say(Kind.CONDITION, name="胃癌", assertion=Assertion.PAST)
    )
    assert [s.name.start for s in found] == [0, 3]


def test_units_and_flags_stand_behind_their_value() -> None:
    text = "TP 6.5 g/dL Alb 3.0 g/dL L LDH 300 U/L H"
    found = run(
        text,
        lab("TP", "6.5", unit="g/dL"),
        lab("Alb", "3.0", unit="g/dL", flag="L"),
        lab("LDH", "300", unit="U/L", flag="H"),
    )
    assert [s.fields[Field.UNIT].start for s in found] == [7, 20, 35]
    assert [s.fields[Field.FLAG].start for s in found[1:]] == [25, 39]


def test_dose_usage_and_days_follow_their_drug() -> None:
    text = "A錠 1錠 分1 28日分 B錠 1錠 分1 28日分"
    found = run(
        text,
        say(Kind.PRESCRIPTION, name="A錠", dose="1錠", usage="分1", days="28日分"),
        say(Kind.PRESCRIPTION, name="B錠", dose="1錠", usage="分1", days="28日分"),
    )
    assert [s.fields[Field.DOSE].start for s in found] == [3, 17]
    assert [s.fields[Field.USAGE].start for s in found] == [6, 20]
    assert [s.fields[Field.DAYS].start for s in found] == [9, 23]


def relatives(text: str, *pairs: tuple[str, str]) -> list[int]:
    written = [say(Kind.CONDITION, name=n, relative=r, assertion=Assertion.FAMILY) for n, r in pairs]
    return starts(text, *written, field=Field.RELATIVE)


def test_a_relative_leads_unless_in_brackets() -> None:
    assert relatives("父：胃癌、祖父：肺癌", ("胃癌", "父"), ("肺癌", "祖父")) == [0, 5]
    assert relatives("祖父：胃癌、父：肺癌", ("胃癌", "祖父"), ("肺癌", "父")) == [0, 6]
    assert relatives("胃癌（父）、肺癌（父）", ("胃癌", "父"), ("肺癌", "父")) == [3, 9]
    assert relatives("父 脳梗塞、父 心筋梗塞", ("脳梗塞", "父"), ("心筋梗塞", "父")) == [0, 6]
    assert relatives("母：高血圧、母方祖母：糖尿病", ("高血圧", "母"), ("糖尿病", "母方祖母")) == [0, 6]
    assert relatives("高血圧の家族歴（父）", ("高血圧", "父")) == [8]


def test_a_year_is_not_the_beginning_of_a_month() -> None:
    text = "2015年5月 肺癌、胃癌 2015年"
    found = run(text, say(Kind.CONDITION, name="肺癌", onset="2015年5月"), say(Kind.CONDITION, name="胃癌", onset="2015年"))
    assert [s.fields[Field.ONSET].start for s in found] == [0, 14]
    text = "胃癌(2015年)、肺癌(2015年5月)"
    found = run(text, say(Kind.CONDITION, name="胃癌", onset="2015年"), say(Kind.CONDITION, name="肺癌", onset="2015年5月"))
    assert [s.fields[Field.ONSET].start for s in found] == [3, 13]


def test_dates_and_days_are_looked_for_above_nearest_first() -> None:
    text = "5/1\n5/10\n採血\n\nCRP 0.3"
    [found] = run(text, lab("CRP", "0.3", 4, date="5/1"))
    assert found.fields[Field.DATE].start == 0
    text = "退院時処方 7日分\n中止\nロキソニン 3錠\n処方 7日分\nムコスタ 3錠"
    assert starts(text, say(Kind.PRESCRIPTION, 2, name="ロキソニン", days="7日分"), field=Field.DAYS) == [6]
    assert starts(text, say(Kind.PRESCRIPTION, 4, name="ムコスタ", days="7日分"), field=Field.DAYS) == [
        text.rindex("7日分")
    ]


def test_twenty_five_lines_above_are_searched_and_blank_ones_do_not_count() -> None:
    near = "5/1\n\n" + "経過\n\n" * 24 + "CRP 0.3"
    assert starts(near, lab("CRP", "0.3", near.count("\n"), date="5/1"), field=Field.DATE) == [0]
    far = "5/1\n" + "経過\n" * 25 + "CRP 0.3"
    [statement], [issue] = locate(lines_of(far), [lab("CRP", "0.3", 26, date="5/1")])
    assert Field.DATE not in statement.fields
    assert far[issue.start : issue.end] == "CRP"


def test_only_dates_and_days_are_looked_for_above() -> None:
    statements, issues = locate(lines_of("mg/dL 蕁麻疹\nCRP 0.3\nエビ"), [
        lab("CRP", "0.3", 1, unit="mg/dL"),
        Written(2, Kind.ALLERGY, {Field.NAME: "エビ", Field.REACTION: "蕁麻疹"}, category=AllergyCategory.FOOD),
    ])  # fmt: skip
    assert [set(s.fields) for s in statements] == [{Field.NAME, Field.VALUE}, {Field.NAME}]
    assert len(issues) == 2
    _say_nothing_of_the_note(issues, "CRP", "mg/dL", "エビ", "蕁麻疹")


def test_a_statement_without_its_name_is_dropped_with_an_issue() -> None:
    text = "咳\n患者は元気"
    statements, [issue] = locate(lines_of(text), [say(Kind.CONDITION, 1, name="糖尿病"), say(Kind.CONDITION, name="咳")])
    assert [s.name.quote for s in statements] == ["咳"]
    assert (issue.start, issue.end) == (2, 7)
    _say_nothing_of_the_note([issue], "糖尿病", "患者")
    assert locate(lines_of(text), [say(Kind.CONDITION, name="")])[0] == []


def test_a_value_that_is_not_in_the_line_is_left_out_with_an_issue() -> None:
    text = "CRP 0.3"
    [statement], [issue] = locate(lines_of(text), [lab("CRP", "0.4")])
    assert set(statement.fields) == {Field.NAME}
    assert (issue.start, issue.end) == (0, 3)
    _say_nothing_of_the_note([issue], "CRP", "0.4")


def _say_nothing_of_the_note(issues: list[Issue], *texts: str) -> None:
    assert not [text for text in texts for issue in issues if text in issue.text]


def test_repeated_statements_are_dropped_but_not_those_of_another_kind() -> None:
    text = "糖尿病 1"
    found = run(text, *[say(Kind.CONDITION, name="糖尿病")] * 3, lab("糖尿病"), lab("糖尿病"))
    assert [s.kind for s in found] == [Kind.CONDITION, Kind.LAB]


def test_statements_come_in_the_order_of_the_lines_with_their_labels() -> None:
    allergy = Written(
        0, Kind.ALLERGY, {Field.NAME: "エビ"}, Assertion.SUSPECTED, AllergyCategory.FOOD, confidence=0.5
    )
    found = run("エビ\n咳", say(Kind.CONDITION, 1, name="咳", assertion=Assertion.ABSENT), allergy)
    assert [s.name.quote for s in found] == ["エビ", "咳"]
    assert (found[0].assertion, found[0].category, found[0].confidence) == (
        Assertion.SUSPECTED,
        AllergyCategory.FOOD,
        0.5,
    )


def test_quotes_are_the_notes_own_text_when_the_model_read_a_folded_line() -> None:
    text = "👨ＨｂＡ１ｃ　７．２％、ﾍﾟﾆｼﾘﾝ"
    lines = lines_of(text)
    written = [lab("HbA1c", "7.2", unit="%"), say(Kind.CONDITION, name=fold("ﾍﾟﾆｼﾘﾝ"))]
    [first, second], issues = locate(lines, written, fold)
    assert not issues
    assert {key: span.quote for key, span in first.fields.items()} == {
        Field.NAME: "ＨｂＡ１ｃ",
        Field.VALUE: "７．２",
        Field.UNIT: "％",
    }
    assert second.name.quote == "ﾍﾟﾆｼﾘﾝ" and text[second.start :] == "ﾍﾟﾆｼﾘﾝ"


_TEXTS = st.text(st.sampled_from("あ糖尿 1２.7,/年月父祖(（ｶﾞ👨ABa\t"), min_size=1, max_size=14)


@st.composite
def random_notes(draw: st.DrawFn) -> tuple[str, list[Written]]:
    texts = draw(st.lists(_TEXTS, min_size=1, max_size=4))
    written = []
    for number, text in enumerate(texts):
        for _ in range(draw(st.integers(0, 3))):
            kind = draw(st.sampled_from(Kind))
            fields = {}
            for field in FIELDS[kind]:
                if field is Field.NAME or draw(st.booleans()):
                    source = fold(draw(st.sampled_from([text, text, text, *texts])))
                    start = draw(st.integers(0, len(source) - 1))
                    fields[field] = source[start : draw(st.integers(start + 1, len(source)))]
            written.append(Written(number, kind, fields))
    return "\n".join(texts), written


@settings(deadline=None, max_examples=80)
@given(random_notes())
def test_spans_always_quote_the_note(case: tuple[str, list[Written]]) -> None:
    text, written = case
    lines = lines_of(text)
    statements, issues = locate(lines, written, fold)
    assert len(statements) <= len(written)
    wanted = {fold(piece) for item in written for piece in item.fields.values()}
    for statement in statements:
        for span in statement.fields.values():
            assert text[span.start : span.end] == span.quote
            assert fold(span.quote) in wanted
        # The name stands in the line that the statement was written for, as do all fields but dates and days.
        home = [n for n, line in enumerate(lines) if line.start <= statement.name.start <= line.start + len(line.text)]
        line = lines[home[0]]
        for field, span in statement.fields.items():
            if field not in (Field.DATE, Field.DAYS):
                assert line.start <= span.start and span.end <= line.start + len(line.text)
    for item in written:
        if fold(item.fields[Field.NAME]) not in fold(lines[item.line].text):
            assert any(issue.start == lines[item.line].start for issue in issues)

"""What may be written about a note and what may not, decided by llguidance alone: no model is involved."""

import llguidance
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.generation import form, grammar
from app.generation.grammar import Line
from schemas.statement import FIELDS, Action, AllergyCategory, Assertion, Field, InfectionResult, Kind

_BYTES = llguidance.LLTokenizer("byte")


def accepts(lines: list[Line], text: str) -> bool:
    """Can exactly `text` be written about `lines`?"""
    source = grammar.build(lines, grammar.PLAIN)
    grammar.check(source)
    matcher = llguidance.LLMatcher(_BYTES, llguidance.grammar_from("lark", source))
    assert not matcher.is_error(), matcher.get_error()
    tokens = list(text.encode())
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def note(*texts: str) -> list[Line]:
    return [Line(number, text) for number, text in enumerate(texts)]


def replay(text: str) -> str:
    return form.LINE_OPEN + form.escape(text) + form.CLOSE


def row(kind: Kind, /, *, assertion: Assertion = Assertion.PRESENT, **fields: str) -> str:
    category = AllergyCategory.FOOD if kind is Kind.ALLERGY else None
    action = Action.PRESCRIBE if kind is Kind.PRESCRIPTION else None
    written = form.Written(
        0, kind, {Field(k): v for k, v in fields.items()}, assertion=assertion, category=category, action=action
    )
    return "".join(text for text, _ in form.parts(written))


def one(text: str, *rows: str) -> bool:
    """Are `rows` accepted below the line `text`?"""
    return accepts(note(text), replay(text) + "".join(rows) + form.END)


_NAMES = ["HbA1c", "2型糖尿病", "ペニシリン", "アムロジピンOD錠5mg", "心房細動(Af)", "γ-GTP", "BNP"]
_FIELDS = {
    Field.VALUE: ["7.2", "<0.5", "2+", "陽性", "1,234", "±", "1万2千"],
    Field.UNIT: ["%", "mg/dL", "×10^4/μL", "℃"],
    Field.FLAG: ["H", "↑", "高値"],
    Field.DATE: ["5/10", "2024年5月", "R6.5.1", "前回"],
    Field.ONSET: ["2015年", "昨年", "3年前"],
    Field.RELATIVE: ["父", "母方祖母"],
    Field.REACTION: ["発疹", "蕁麻疹・呼吸苦"],
    Field.DOSE: ["1回1錠", "0.5T", "半錠"],
    Field.USAGE: ["分2 朝夕食後", "朝", "疼痛時"],
    Field.DAYS: ["28日分", "14TD"],
}
_NOISE = ["。", "、", " ", "\t", "\"", "\\", "{", "}", '{"end":true}', "👨\u200d👩", "\u3099", " は ", "<|im_end|>", "　"]


@st.composite
def written_notes(draw: st.DrawFn) -> tuple[list[Line], str]:
    """A note and the statements it makes, as text: fields between noise, some names marked as mentions."""
    lines, text = [], ""
    for number in range(draw(st.integers(1, 3))):
        body, rows, mentions = "。1", "", []
        for _ in range(draw(st.integers(0, 3))):
            kind = draw(st.sampled_from(Kind))
            fields = {Field.NAME: draw(st.sampled_from(_NAMES))}
            body += draw(st.sampled_from(_NOISE)) + "、"
            if draw(st.booleans()):
                mentions.append((len(body), len(body) + len(fields[Field.NAME]), kind))
            body += fields[Field.NAME]
            for field in FIELDS[kind][1:]:
                if draw(st.booleans()):
                    fields[field] = draw(st.sampled_from(_FIELDS[field]))
                    body += draw(st.sampled_from(_NOISE)) + " " + fields[field]
            body += "、"
            written = form.Written(
                number,
                kind,
                fields,
                assertion=draw(st.sampled_from(form.ASSERTIONS.get(kind, (Assertion.PRESENT,)))),
                category=draw(st.sampled_from(AllergyCategory)) if kind is Kind.ALLERGY else None,
                result=draw(st.sampled_from([None, *InfectionResult])) if kind is Kind.INFECTION else None,
                action=draw(st.sampled_from(Action)) if kind is Kind.PRESCRIPTION else None,
            )
            rows += "".join(part for part, _ in form.parts(written))
        lines.append(Line(number, body, tuple(mentions)))
        text += replay(body) + rows
    return lines, text + form.END


@settings(deadline=None, max_examples=20)
@given(written_notes())
def test_every_sound_list_of_statements_can_be_written(case: tuple[list[Line], str]) -> None:
    lines, text = case
    assert accepts(lines, text)


def test_a_number_is_copied_whole() -> None:
    line = "BNP 248.6 pg/mL H"
    assert one(line, row(Kind.LAB, name="BNP", value="248.6", unit="pg/mL", flag="H"))
    for value in ("24", "248", "248.", "48.6", "8.6", "248.60", "249"):
        assert not one(line, row(Kind.LAB, name="BNP", value=value))
    assert not one(line, row(Kind.LAB, name="BN", value="248.6"))
    assert not one("WBC 12,300", row(Kind.LAB, name="WBC", value="12"))


def test_text_that_is_not_in_the_line_cannot_be_written() -> None:
    line = "2型糖尿病 HbA1c 7.2%"
    for name in ("1型糖尿病", "2型 糖尿病", "E11", "糖尿病HbA1c", "糖尿病網膜症"):
        assert not one(line, row(Kind.CONDITION, name=name))
    assert one(line, row(Kind.CONDITION, name="糖尿病"))


def test_codes_and_invented_labels_cannot_be_written() -> None:
    line = "2型糖尿病 7"
    assert not one(line, '{"kind":"condition","name":"糖尿病","code":"E11","assertion":"present"}\n')
    assert not one(line, '{"kind":"condition","name":"糖尿病","assertion":"likely"}\n')
    assert not one(line, '{"kind":"symptom","name":"糖尿病","assertion":"present"}\n')
    assert not one(line, '{"kind":"condition","name":"糖尿病"}\n')
    assert not one(line, '{"kind":"condition","name":"糖尿病","onset":"7","relative":"7","assertion":"present"}\n')
    assert not one(line, row(Kind.CONDITION, name="糖尿病").replace(":", ": "))
    assert not one(line, row(Kind.ALLERGY, name="糖尿病", assertion=Assertion.FAMILY))
    assert not one(line, row(Kind.LAB, name="糖尿病", value="7").replace("value", "dose"))


def test_the_lines_are_replayed_as_they_are() -> None:
    lines = note("CRP 0.1", "WBC 5000")
    whole = replay("CRP 0.1") + replay("WBC 5000") + form.END
    assert accepts(lines, whole)
    assert not accepts(lines, whole.replace("0.1", "0.2"))
    assert not accepts(lines, replay("CRP 0.1") + form.END)
    assert not accepts(lines, replay("WBC 5000") + replay("CRP 0.1") + form.END)
    assert not accepts(lines, replay("CRP 0.1") + replay("CRP 0.1") + replay("WBC 5000") + form.END)
    # A statement belongs to the line above it.
    assert not accepts(lines, replay("CRP 0.1") + row(Kind.LAB, name="WBC") + replay("WBC 5000") + form.END)


def test_results_are_offered_only_where_a_result_can_stand() -> None:
    assert not one("採血を予定する", row(Kind.LAB, name="採血"))
    assert not one("肝炎ウイルスを調べる", row(Kind.INFECTION, name="肝炎ウイルス"))
    assert one("HBs抗原 陰性", row(Kind.INFECTION, name="HBs抗原", value="陰性"))
    assert one("尿蛋白 ±", row(Kind.LAB, name="尿蛋白", value="±"))


def test_a_field_is_not_empty_and_has_no_space_at_its_ends() -> None:
    line = "咳 と 熱　あり"
    assert one(line, row(Kind.CONDITION, name="咳 と 熱"))
    for name in ("", " ", "咳 ", " と", "熱　", "　あり", "　"):
        assert not one(line, row(Kind.CONDITION, name=name))
    assert not one(line, row(Kind.CONDITION, name="と 熱", onset=""))
    assert one(line, row(Kind.CONDITION, name="と 熱"))


def test_a_number_or_a_date_is_no_disease() -> None:
    line = "令和3年 5/10 (咳) K 4.1 卵 糖尿病"
    for name in ("令和3年", "5/10", "4.1", "4.1 ", ") K", "年"):
        assert not one(line, row(Kind.CONDITION, name=name)), name
    assert one(line, row(Kind.CONDITION, name="糖尿病", onset="令和3年"))
    assert one(line, row(Kind.LAB, name="K", value="4.1", date="5/10"))
    assert one(line, row(Kind.ALLERGY, name="卵"))
    assert not one(line, row(Kind.LAB, name="K", value="糖尿病"))


def test_the_number_of_statements_is_bounded() -> None:
    line = Line(0, "咳嗽、" * 100)
    most = grammar.most_statements(line)
    assert most == grammar.MAX_STATEMENTS
    statement = row(Kind.CONDITION, name="咳嗽")
    assert accepts([line], replay(line.text) + statement * most + form.END)
    assert not accepts([line], replay(line.text) + statement * (most + 1) + form.END)
    short = Line(0, "咳嗽、熱")
    few = grammar.most_statements(short)
    assert 2 <= few < 10
    assert accepts([short], replay(short.text) + statement * few + form.END)
    assert not accepts([short], replay(short.text) + statement * (few + 1) + form.END)


_HEADS = [
    "2024/5/10 採血", "R6.5.10", "令和6年5月10日", "2024.5", "24.5.10",
    "2024年5月", "12月", "（5/10）", "14日分", "退院時処方 28TD",
]  # fmt: skip


@pytest.mark.parametrize("head", _HEADS)
def test_dates_and_supplies_may_come_from_lines_above_but_not_too_far(head: str) -> None:
    piece = {"2024/5/10 採血": "2024/5/10", "（5/10）": "5/10", "退院時処方 28TD": "28TD"}.get(head, head)
    lab, drug = "CRP 0.3", "ロキソニン 3錠"
    supply = piece in ("14日分", "28TD")
    last = drug if supply else lab
    statement = (
        row(Kind.PRESCRIPTION, name="ロキソニン", days=piece) if supply else row(Kind.LAB, name="CRP", date=piece)
    )
    for between, allowed in ((0, True), (grammar.LOOK_BACK - 1, True), (grammar.LOOK_BACK, False)):
        lines = note(head, *["経過"] * between, last)
        text = "".join(replay(line.text) for line in lines) + statement + form.END
        assert accepts(lines, text) is allowed
    below = note(last, head)
    assert not accepts(below, replay(last) + statement + replay(head) + form.END)


def test_results_between_do_not_crowd_out_the_date_of_a_table() -> None:
    rows = [f"Hb {10 + number / 10:.1f}" for number in range(grammar.LOOK_BACK - 1)]
    lines = note("5/10", *rows, "CRP 0.3")
    above = "".join(replay(line.text) for line in lines)
    assert accepts(lines, above + row(Kind.LAB, name="CRP", value="0.3", date="5/10") + form.END)
    assert not accepts(lines, above + row(Kind.LAB, name="CRP", value="0.3", date="10.1") + form.END)


def test_only_dates_and_supplies_come_from_above() -> None:
    lines = note("5/10 CRP", "Hb 0.3 14日分")
    above = replay("5/10 CRP") + replay("Hb 0.3 14日分")
    assert not accepts(lines, above + row(Kind.LAB, name="CRP", value="0.3") + form.END)
    assert not accepts(lines, above + row(Kind.LAB, name="Hb", unit="5/10") + form.END)
    assert accepts(lines, above + row(Kind.LAB, name="Hb", date="5/10") + form.END)
    assert not accepts(lines, above + row(Kind.LAB, name="Hb", date="5/1") + form.END)


_HOSTILE = '"}\n'.replace("\n", "") + ' {"end":true} \\"name\\":\\\\ <|im_end|> {"kind":"lab"} \U0001f469\u200d\U0001f467 /*7*/'


def test_a_line_that_looks_like_the_form_stays_text() -> None:
    assert one(_HOSTILE, row(Kind.LAB, name='{"end":true}', value="7"))
    assert one(_HOSTILE, row(Kind.LAB, name=_HOSTILE[: _HOSTILE.rindex("lab") + 3]))
    assert not one(_HOSTILE, form.END)
    assert not accepts(note(_HOSTILE), form.LINE_OPEN + form.END)
    # Not escaped, it would end the field.
    assert not one(_HOSTILE, '{"kind":"lab","name":"{"end":true}"}\n')


def test_tabs_and_control_characters_are_escaped() -> None:
    line = "Na\t140\x0b\x1f K\r4.1\u2028end\u0085"
    assert one(line, row(Kind.LAB, name="Na\t140"), row(Kind.LAB, name="K", value="4.1"))


def test_a_very_long_line_is_held_by_the_grammar() -> None:
    line = "血糖は123でした。" * 2000
    assert len(line) == 20_000
    for value, allowed in (("123", True), ("12", False)):
        text = replay(line) + row(Kind.LAB, name="血糖", value=value) + row(Kind.LAB, name=line[200:400]) + form.END
        assert accepts([Line(0, line)], text) is allowed


@pytest.mark.parametrize("text", [" 2 ", "1", "。", "令和3年", "-", "咳", "K", "①", "\u200b", "+7", "a", "a\t", "\t\"a", "\x7f癌\x01"])
def test_nothing_is_offered_that_cannot_be_finished(text: str) -> None:
    source = grammar.build(note("前置き", text), grammar.PLAIN)
    for seed in range(12):
        random = np.random.default_rng(seed)
        matcher = llguidance.LLMatcher(_BYTES, llguidance.grammar_from("lark", source))
        for _ in range(2000):
            if matcher.is_stopped():
                break
            mask = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
            offered = np.flatnonzero(mask[:256])
            if not len(offered):
                break
            assert matcher.consume_token(int(random.choice(offered)))
        assert matcher.is_accepting(), seed


def test_mentions_are_copied_whole() -> None:
    lines = [Line(0, "2型糖尿病 7", ((0, 5, Kind.CONDITION),))]
    above = replay("2型糖尿病 7")
    assert accepts(lines, above + row(Kind.CONDITION, name="2型糖尿病") + form.END)
    assert not accepts(lines, above + row(Kind.CONDITION, name="糖尿病") + form.END)


def test_an_empty_note_ends_at_once() -> None:
    assert accepts([], form.END)
    assert accepts(note(" "), replay(" ") + form.END)


def test_a_grammar_that_cannot_be_enforced_is_refused_without_the_note() -> None:
    with pytest.raises(InvalidInput) as caught:
        grammar.check('start: undefined_rule "糖尿病"')
    assert "糖尿病" not in str(caught.value)


def test_a_reference_range_is_never_offered() -> None:
    text = "K 5.2 mEq/L H (3.5-5.0)"
    assert one(text, row(Kind.LAB, name="K", value="5.2", unit="mEq/L", flag="H"))
    for kind in Kind:
        assert Field.REFERENCE not in FIELDS[kind]
    assert not one(text, '{"kind":"lab","name":"K","value":"5.2","reference":"3.5-5.0"}\n')
    assert not one(text, '{"kind":"infection","name":"K","value":"5.2","reference":"3.5-5.0"}\n')
    assert Field.REFERENCE.value not in grammar.build(note(text), grammar.PLAIN).replace(text, "")
    assert not any(Field.REFERENCE.value in fragment for fragment in form.all_fragments())
    # A statement that has one is written without it: training and storage of what a model wrote know FIELDS alone.
    with_range = form.Written(0, Kind.LAB, {Field.NAME: "K", Field.VALUE: "5.2", Field.REFERENCE: "3.5-5.0"})
    assert "".join(part for part, _ in form.parts(with_range)) == row(Kind.LAB, name="K", value="5.2")


@pytest.mark.parametrize("name", ["\t6800", "6800\t", "\t", "WBC\t", "\tWBC", "\x01WBC", "\x7fWBC", "\u00a0WBC"])
def test_the_letter_of_an_escape_is_no_letter_and_no_field_ends_with_a_tab(name: str) -> None:
    line = "a\tWBC\t6800\t\x01WBC\x7fWBC\u00a0WBC\t"
    assert one(line, row(Kind.LAB, name="WBC\t6800\t\x01WBC"))
    assert not one(line, row(Kind.LAB, name=name))
    assert not one(line, row(Kind.LAB, name="WBC", unit=name))


def test_every_control_character_can_stand_in_a_note() -> None:
    for code in [*range(1, 0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0)]:
        assert one(f"Na{chr(code)}140", row(Kind.LAB, name="Na", value="140")), hex(code)

"""Statements to records: what a name means, what a value is, and what is said when neither is known."""

from datetime import date
from decimal import Decimal

import pytest

from app import standardize
from app.terminology.entries import Entry, starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas import systems
from schemas.coding import Coding
from schemas.issue import Issue, IssueType
from schemas.record import Comparator, Quantity, Record, ReferenceRange
from schemas.statement import (
    Action,
    AllergyCategory,
    Assertion,
    EvidenceSpan,
    Field,
    InfectionResult,
    Kind,
    Statement,
)

DAY = date(2026, 6, 1)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


def say(
    kind: Kind,
    *,
    assertion: Assertion = Assertion.PRESENT,
    category: AllergyCategory | None = None,
    result: InfectionResult | None = None,
    **fields: str,
) -> Statement:
    """A statement whose fields stand side by side in the note, from offset 100."""
    spans, at = {}, 100
    for key, quote in fields.items():
        spans[Field(key)] = EvidenceSpan(start=at, end=at + len(quote), quote=quote)
        at += len(quote)
    return Statement(
        kind=kind,
        fields=spans,
        assertion=assertion,
        category=category or (AllergyCategory.OTHER if kind is Kind.ALLERGY else None),
        result=result,
        action=Action.PRESCRIBE if kind is Kind.PRESCRIPTION else None,
    )


def one(lexicon: Lexicon, statement: Statement) -> tuple[Record, list[Issue]]:
    [record], issues = standardize.records([statement], DAY, lexicon)
    return record, issues


def codes(record: Record) -> set[tuple[str, str]]:
    return {(coding.system, coding.code) for coding in record.codings}


# -- conditions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DM2", "２型糖尿病", "Ⅱ型糖尿病", "T2DM"])
def test_an_abbreviation_is_expanded_and_coded(lexicon: Lexicon, name: str) -> None:
    record, issues = one(lexicon, say(Kind.CONDITION, name=name, onset="2015年"))
    assert not issues
    assert (record.display, record.date) == ("2型糖尿病", "2015")
    assert (systems.ICD10, "E119") in codes(record)
    assert record.statement.name.quote == name


@pytest.mark.parametrize("name", ["右肺炎", "両側肺炎", "左 肺炎", "肺炎の疑い", "肺炎治療後"])
def test_sides_and_states_keep_the_code_and_the_written_name(lexicon: Lexicon, name: str) -> None:
    record, issues = one(lexicon, say(Kind.CONDITION, name=name))
    assert not issues
    assert record.display == name
    assert (systems.ICD10, "J189") in codes(record)


def test_a_name_without_code_stays_as_written_and_is_reported(lexicon: Lexicon) -> None:
    name = "架空性ほげほげ症候群"
    for kind in Kind:
        record, issues = one(lexicon, say(kind, name=name))
        assert record.display == name and not record.codings
        assert [(i.code, i.start, i.end) for i in issues] == [(IssueType.CODE_INVALID, 100, 100 + len(name))]
        assert not [i for i in issues if name in i.text or "ほげ" in i.text]


def test_dates_relatives_and_what_cannot_be_computed(lexicon: Lexicon) -> None:
    record, _ = one(
        lexicon, say(Kind.CONDITION, assertion=Assertion.FAMILY, name="高血圧", relative="母方祖母", onset="昨年")
    )
    assert (record.display, record.relative, record.date) == ("高血圧症", "母方祖母", "2025")
    record, [issue] = one(lexicon, say(Kind.CONDITION, name="高血圧", onset="若い頃"))
    assert record.date is None
    assert (issue.code, issue.start, issue.end) == (IssueType.VALUE, 103, 106)
    assert "若い" not in issue.text


def test_a_name_that_says_suspected_is_no_certain_diagnosis(lexicon: Lexicon) -> None:
    record, _ = one(lexicon, say(Kind.CONDITION, name="肺炎の疑い"))
    assert record.statement.assertion is Assertion.SUSPECTED
    record, _ = one(lexicon, say(Kind.CONDITION, name="肺炎の疑い", assertion=Assertion.ABSENT))
    assert record.statement.assertion is Assertion.ABSENT
    record, _ = one(lexicon, say(Kind.CONDITION, name="胃癌の既往"))
    assert record.statement.assertion is Assertion.PAST


def test_modifiers_candidates_and_the_score_reach_the_record(lexicon: Lexicon) -> None:
    record, _ = one(lexicon, say(Kind.CONDITION, name="左乳癌術後"))
    assert [modifier.text for modifier in record.modifiers] == ["左", "術後"]
    [record], _ = standardize.records([say(Kind.CONDITION, name="アルツハイマーー型認知性症")], DAY, lexicon, min_score=1.0)
    assert not record.codings and record.candidates


# -- allergies --------------------------------------------------------------------------------------------------------


def test_the_tables_category_wins(lexicon: Lexicon) -> None:
    record, issues = one(lexicon, say(Kind.ALLERGY, category=AllergyCategory.MEDICATION, name="鶏卵"))
    assert not issues
    assert record.statement.category is AllergyCategory.FOOD
    assert {system for system, _ in codes(record)} == {systems.JFAGY_FOOD}
    record, _ = one(lexicon, say(Kind.ALLERGY, category=AllergyCategory.FOOD, name="そばアレルギー", reaction="発疹、呼吸苦"))
    assert {system for system, _ in codes(record)} == {systems.JFAGY_FOOD}
    assert record.reactions == ("発疹", "呼吸苦")


def test_a_drug_is_an_allergen_of_medication(lexicon: Lexicon) -> None:
    record, _ = one(lexicon, say(Kind.ALLERGY, category=AllergyCategory.FOOD, name="ﾛｷｿﾆﾝ錠60mg"))
    assert record.statement.category is AllergyCategory.MEDICATION
    assert codes(record) == {(systems.JFAGY_PRODUCT, "YCM1149019F1560")}
    # Which of its products the brand means is not said.
    record, issues = one(lexicon, say(Kind.ALLERGY, category=AllergyCategory.FOOD, name="ロキソニン"))
    assert record.statement.category is AllergyCategory.MEDICATION
    assert not record.codings and {c.coding.system for c in record.candidates} == {systems.JFAGY_PRODUCT}
    assert [issue.code for issue in issues] == [IssueType.CODE_INVALID]
    record, _ = one(lexicon, say(Kind.ALLERGY, category=AllergyCategory.ENVIRONMENT, name="ほこり"))
    assert record.statement.category is AllergyCategory.ENVIRONMENT


@pytest.mark.parametrize("name", ["アレルギー", "ｱﾚﾙｷﾞｰ", "薬剤", "食物アレルギー", "Allergy"])
def test_a_general_denial_needs_no_code(lexicon: Lexicon, name: str) -> None:
    _, issues = one(lexicon, say(Kind.ALLERGY, assertion=Assertion.ABSENT, name=name))
    assert not issues


# -- laboratory results -----------------------------------------------------------------------------------------------


def test_a_number_keeps_its_digits_and_takes_its_unit(lexicon: Lexicon) -> None:
    record, issues = one(lexicon, say(Kind.LAB, name="ＨｂＡ１ｃ", value="７．１０", unit="％", flag="↑"))
    assert not issues
    assert record.quantity == Quantity(value=Decimal("7.10"), unit="%")
    assert str(record.quantity.value) == "7.10"
    assert (record.display, record.flag, record.date) == ("HbA1c", "↑", "2026-06-01")
    assert {system for system, _ in codes(record)} == {systems.CORE_LAB}
    assert record.text_value is None


def test_comparators(lexicon: Lexicon) -> None:
    for value, comparator in (("<0.02", Comparator.LT), ("0.02以下", Comparator.LE), ("≧0.02", Comparator.GE)):
        record, _ = one(lexicon, say(Kind.LAB, name="CRP", value=value, unit="mg/dL"))
        assert record.quantity == Quantity(value=Decimal("0.02"), comparator=comparator, unit="mg/dL")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("血液型", "A型", "A"),
        ("ABO", "ＡＢ", "AB"),
        ("血液型", "O型Rh(+)", "O"),
        ("Rh", "(+)", "陽性"),
        ("RhD", "陰性", "陰性"),
        ("尿蛋白", "(2+)", "2+"),
        ("尿蛋白", "－", "-"),
        ("尿蛋白", "±", "±"),
        ("CRP定性", "(-)", "陰性"),
    ],
)
def test_results_in_words_and_signs(lexicon: Lexicon, name: str, value: str, text: str) -> None:
    record, issues = one(lexicon, say(Kind.LAB, name=name, value=value))
    assert not issues
    assert (record.text_value, record.quantity) == (text, None)


def test_a_result_that_is_not_understood_stays_as_written(lexicon: Lexicon) -> None:
    record, [issue] = one(lexicon, say(Kind.LAB, name="CRP", value="測定ﾌﾉｳ"))
    assert (record.text_value, record.quantity) == ("測定フノウ", None)
    assert (issue.code, issue.start, issue.end) == (IssueType.VALUE, 103, 108)
    assert "測定" not in issue.text


def test_the_day_of_a_result(lexicon: Lexicon) -> None:
    record, _ = one(lexicon, say(Kind.LAB, name="CRP", value="0.3", date="5/10"))
    assert record.date == "2026-05-10"
    record, [issue] = one(lexicon, say(Kind.LAB, name="CRP", value="0.3", date="同日"))
    assert record.date is None  # some day that was named before: the note's own would make an old result a new one
    assert issue.code is IssueType.VALUE
    record, issues = one(lexicon, say(Kind.LAB, name="CRP"))
    assert not issues and record.quantity is None and record.text_value is None


def test_a_reference_range_beside_the_result(lexicon: Lexicon) -> None:
    record, _ = one(lexicon, say(Kind.LAB, name="K", value="4.1", reference="(3.5-5.0)"))
    assert record.reference_range == ReferenceRange(low=Decimal("3.5"), high=Decimal("5.0"))
    record, _ = one(lexicon, say(Kind.LAB, name="K", value="4.1", reference="(なし)"))
    assert record.reference_range is None


# -- infections -------------------------------------------------------------------------------------------------------


def test_an_infection_by_its_label_its_number_or_both(lexicon: Lexicon) -> None:
    record, issues = one(lexicon, say(Kind.INFECTION, result=InfectionResult.NEGATIVE, name="HBs抗原", value="(-)"))
    assert not issues
    assert (record.text_value, record.quantity) == ("陰性", None)
    assert {system for system, _ in codes(record)} == {systems.INFECTION_LAB}
    record, issues = one(lexicon, say(Kind.INFECTION, name="HBs抗体", value="123.4", unit="mIU/mL"))
    assert not issues
    assert (record.text_value, record.quantity) == (None, Quantity(value=Decimal("123.4"), unit="mIU/mL"))
    record, issues = one(
        lexicon, say(Kind.INFECTION, result=InfectionResult.POSITIVE, name="HCV抗体", value="12.3", unit="COI")
    )
    assert not issues
    assert (record.text_value, record.quantity) == ("陽性", Quantity(value=Decimal("12.3"), unit="COI"))


def test_an_infections_value_without_a_label(lexicon: Lexicon) -> None:
    record, issues = one(lexicon, say(Kind.INFECTION, name="HBs抗原", value="陽性"))
    assert not issues and record.text_value == "陽性"
    record, [issue] = one(lexicon, say(Kind.INFECTION, name="HBs抗原", value="再検"))
    assert (record.text_value, record.quantity) == (None, None)
    assert (issue.code, issue.start, issue.end) == (IssueType.VALUE, 105, 107)
    record, issues = one(lexicon, say(Kind.INFECTION, result=InfectionResult.INDETERMINATE, name="RPR"))
    assert not issues and record.text_value == "判定保留"


# -- prescriptions ----------------------------------------------------------------------------------------------------


def test_a_prescription_is_computed_and_its_product_coded() -> None:
    coding = Coding(system=systems.YJ, code="2171022F3020", display="アムロジピンOD錠5mg")
    lexicon = Lexicon([Entry(Kind.PRESCRIPTION, coding.display, (coding.display,), (coding,))], "test")
    record, issues = one(
        lexicon, say(Kind.PRESCRIPTION, name="ｱﾑﾛｼﾞﾋﾟﾝOD錠５mg", dose="2錠", usage="分2 朝夕食後", days="28日分")
    )
    assert not issues
    assert record.display == "アムロジピンOD錠5mg"
    assert codes(record) == {(systems.YJ, coding.code)}
    dosage = record.dosage
    assert dosage is not None
    assert (dosage.dose, dosage.dose_unit, dosage.per_day, dosage.days) == (Decimal(1), "錠", 2, 28)


def test_a_usage_is_coded_by_what_it_says(lexicon: Lexicon) -> None:
    record, _ = one(lexicon, say(Kind.PRESCRIPTION, name="アムロジピン錠5mg", dose="1錠", usage="分1 朝食後", days="28日分"))
    assert record.dosage is not None
    assert [(c.system, c.code) for c in record.dosage.usage] == [(systems.USAGE, "1011000400000000"), (systems.USAGE_JAMI, "1011000400000000")]
    for name, usage in (("ロキソニンテープ100mg", "朝食後"), ("アムロジピン錠5mg", "適当に"), ("アムロジピン錠5mg", "隔日")):
        record, _ = one(lexicon, say(Kind.PRESCRIPTION, name=name, usage=usage))
        assert record.dosage is not None and record.dosage.usage == ()


def test_a_dose_that_is_not_computed_is_reported() -> None:
    lexicon = Lexicon([], "empty")
    record, issues = one(lexicon, say(Kind.PRESCRIPTION, name="架空薬", dose="適量", usage="疼痛時"))
    assert record.dosage is not None and record.dosage.dose is None and record.dosage.as_needed
    assert [(i.code, i.start, i.end) for i in issues] == [(IssueType.VALUE, 103, 105), (IssueType.CODE_INVALID, 100, 103)]


def test_records_come_in_the_order_of_the_statements(lexicon: Lexicon) -> None:
    said = [say(Kind.LAB, name="CRP"), say(Kind.CONDITION, name="胃癌"), say(Kind.ALLERGY, name="そば")]
    records, _ = standardize.records(said, DAY, lexicon)
    assert [record.statement.kind for record in records] == [Kind.LAB, Kind.CONDITION, Kind.ALLERGY]
    assert standardize.records([], DAY, lexicon) == ([], [])


# -- what cannot be -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_a_name_is_left_out_with_an_issue(lexicon: Lexicon) -> None:
    kept = [say(Kind.CONDITION, name="痛風"), say(Kind.CONDITION, name="とびひ"), say(Kind.LAB, name="K", value="4.1")]
    kept.append(say(Kind.ALLERGY, name="卵"))
    odd = [say(Kind.CONDITION, name="く"), say(Kind.CONDITION, name="たしました"), say(Kind.PRESCRIPTION, name="薬")]
    found, issues = standardize.plausible([*odd, *kept], lexicon)
    assert found == kept
    assert [(issue.start, issue.end) for issue in issues] == [(s.name.start, s.name.end) for s in odd]
    assert not any(s.name.quote in issue.text for issue in issues for s in odd)


@pytest.mark.parametrize("unit", ["15,800", "WBC", "尿蛋白"])
def test_what_is_no_unit_is_left_out(lexicon: Lexicon, unit: str) -> None:
    record, issues = one(lexicon, say(Kind.LAB, name="CRP", value="3.1", unit=unit))
    assert record.quantity == Quantity(value=Decimal("3.1"))
    assert [issue.code for issue in issues] == [IssueType.VALUE]


def test_a_number_alone_is_coded_as_the_quantitative_infection_test(lexicon: Lexicon) -> None:
    record, _ = one(lexicon, say(Kind.INFECTION, name="HBs抗体", value="34.6", unit="mIU/mL"))
    assert [coding.display for coding in record.codings] == ["HBs抗体(定量)"]
    # Which quantitative test it was is not said, and the qualitative one it was not.
    record, issues = one(lexicon, say(Kind.INFECTION, name="HBs抗体", value="34.6"))
    assert record.codings == () and [issue.code for issue in issues] == [IssueType.CODE_INVALID]
    record, _ = one(lexicon, say(Kind.INFECTION, name="HBs抗体", value="34.6", result=InfectionResult.POSITIVE))
    assert [coding.display for coding in record.codings] == ["HBs抗体(定性)"]


@pytest.mark.parametrize(("text", "names"), [
    ("ペニシリンで全身に発疹", ["ペニシリン"]),
    ("薬剤：セファゾリン（アナフィラキシー）、アムロジピン内服中", ["セファゾリン"]),
    ("ロキソニン内服後に呼吸苦。アスピリンは継続", ["ロキソニン"]),
    ("アムロジピン5mgを継続。発疹なし", []),
    ("ラテックスアレルギー疑い", ["ラテックス"]),
])  # fmt: skip
def test_a_reaction_beside_a_drug_that_nobody_read_is_an_issue(lexicon: Lexicon, text: str, names: list[str]) -> None:
    mentions = lexicon.find_mentions(text)
    issues = standardize.unread_allergies(text, mentions, [])
    assert [text[issue.start : issue.end] for issue in issues] == names
    assert {issue.code for issue in issues} <= {IssueType.INCOMPLETE}
    read = []
    for name in names:
        span = EvidenceSpan(start=text.index(name), end=text.index(name) + len(name), quote=name)
        read.append(Statement(kind=Kind.ALLERGY, fields={Field.NAME: span}, category=AllergyCategory.MEDICATION))
    assert standardize.unread_allergies(text, mentions, read) == []


@pytest.mark.parametrize(
    ("name", "usage", "dose", "unit"),
    [
        ("ヘパリン5000単位", "iv", "5000", "単位"),
        ("アスピリン200mg", "内服", "200", "mg"),
        ("アドレナリン０．３ｍｇ", "筋注", "0.3", "mg"),
        ("チアマゾール15mg/日", "継続", "15", "mg/日"),
    ],
)
def test_an_amount_behind_a_name_without_form_is_what_is_given(
    lexicon: Lexicon, name: str, usage: str, dose: str, unit: str
) -> None:
    record, _ = one(lexicon, say(Kind.PRESCRIPTION, name=name, usage=usage))
    assert record.dosage is not None
    assert (record.dosage.dose, record.dosage.dose_unit) == (Decimal(dose), unit)
    taken, named = record.statement.fields[Field.DOSE], record.statement.name
    assert named.start < taken.start < taken.end == named.end


@pytest.mark.parametrize(
    ("name", "usage"),
    [("アムロジピン錠5mg", "朝食後"), ("アムロジピン5mg", None), ("カルボシステイン500mg", "分3 毎食後"), ("ビタミンB12", "内服"), ("5mg", "内服")],
)
def test_an_amount_that_may_be_a_strength_is_no_dose(lexicon: Lexicon, name: str, usage: str | None) -> None:
    fields = {"usage": usage} if usage else {}
    record, _ = one(lexicon, say(Kind.PRESCRIPTION, name=name, **fields))
    assert record.dosage is not None
    assert record.dosage.dose is None
    assert Field.DOSE not in record.statement.fields


def test_a_comparator_behind_the_unit_is_that_of_the_value(lexicon: Lexicon) -> None:
    text = "抗核抗体 40倍以下"
    fields = {
        Field.NAME: EvidenceSpan(start=0, end=4, quote=text[:4]),
        Field.VALUE: EvidenceSpan(start=5, end=7, quote=text[5:7]),
        Field.UNIT: EvidenceSpan(start=7, end=10, quote=text[7:]),
    }
    record, _ = one(lexicon, Statement(kind=Kind.LAB, fields=fields))
    assert record.quantity == Quantity(value=Decimal(40), comparator=Comparator.LE, unit="倍")
    assert [s.quote for s in record.statement.fields.values()] == ["抗核抗体", "40倍以下", "倍"]


def test_the_fields_of_a_dipstick_are_those_of_urine(lexicon: Lexicon) -> None:
    statements = [say(Kind.LAB, name=name, value=value) for name, value in (("pro", "-"), ("糖", "±"), ("OB", "1+"))]
    records, _ = standardize.records(statements, DAY, lexicon)
    assert [record.codings[0].display for record in records] == ["U-TP", "U-Glu", "U-Bld"]
    assert [record.display for record in records] == ["pro", "糖", "OB"]
    assert [record.text_value for record in records] == ["-", "±", "1+"]


def test_without_a_grade_a_short_name_is_not_that_of_urine(lexicon: Lexicon) -> None:
    record, _ = one(lexicon, say(Kind.LAB, name="糖", value="104", unit="mg/dL"))
    assert not any(coding.display == "U-Glu" for coding in record.codings)


def test_the_second_of_two_influenza_tests(lexicon: Lexicon) -> None:
    tests = [say(Kind.LAB, name=name, value=value) for name, value in (("インフルエンザA", "+"), ("B", "-"))]
    records, _ = standardize.records(tests, DAY, lexicon)
    assert records[1].display == "B（インフルエンザB型抗原）"
    alone, _ = standardize.records([tests[1]], DAY, lexicon)
    assert alone[0].display == "B"

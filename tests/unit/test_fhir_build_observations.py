"""検査 and 感染症: records to Observation, through the public face, with the literal JSON expected."""

from decimal import Decimal
from typing import Any

import pytest
from fhir_cases import (
    CORE_LAB,
    FACILITY,
    INFECTION_LAB,
    LOCAL_LAB,
    bare,
    built,
    code_of,
    converted,
    gaps,
    known_note,
    note_of,
    of_records,
    profile_of,
    quoted,
    statement,
)

from app.fhir import dumps
from schemas.coding import Coding
from schemas.issue import Issue
from schemas.record import Comparator, Quantity, Record, ReferenceRange
from schemas.statement import Field, InfectionResult, Kind

K = Coding(system=CORE_LAB, code="3H015000002399901", display="K")


def lab(text: str, quotes: dict[Field, str], **rest: Any) -> dict[str, Any]:
    made = statement(text, Kind.LAB, quotes)
    [observation] = converted(text, Record(statement=made, display=rest.pop("display", quotes[Field.NAME]), **rest))
    assert observation["resourceType"] == "Observation"
    assert profile_of(observation) == "JP_Observation_LabResult"
    assert observation["category"] == [
        {
            "coding": [
                {
                    "system": "http://jpfhir.jp/fhir/core/CodeSystem/JP_SimpleObservationCategory_CS",
                    "code": "laboratory",
                    "display": "Laboratory",
                }
            ]
        }
    ]
    return observation


def test_lab_quantity_keeps_digits_unit_flag_and_date() -> None:
    text = "4/30 ＨｂＡ１ｃ　<1.10 ％ ↓"
    shared = Coding(system=CORE_LAB, code="3D046000001999901", display="HbA1c-NGSP")
    observation = lab(
        text,
        {Field.NAME: "ＨｂＡ１ｃ", Field.VALUE: "<1.10", Field.UNIT: "％", Field.FLAG: "↓", Field.DATE: "4/30"},
        display="HbA1c",
        codings=(shared,),
        quantity=Quantity(value=Decimal("1.10"), comparator=Comparator.LT, unit="%"),
        flag="↓",
        date="2024-04-30",
    )
    quantity = observation["valueQuantity"]
    assert quantity == {
        "extension": quantity["extension"],
        "value": Decimal("1.10"),
        "comparator": "<",
        "unit": "%",
        "system": "http://unitsofmeasure.org",
        "code": "%",
    }
    assert quoted(quantity, text) == ["<1.10", "％"]
    assert '"value":1.10}' in dumps(observation)
    assert observation["status"] == "final"
    assert observation["effectiveDateTime"] == "2024-04-30"
    assert quoted(observation["_effectiveDateTime"], text) == ["4/30"]
    assert code_of(observation["interpretation"][0]) == "L"
    assert observation["specimen"] == {"reference": "#specimen", "type": "Specimen", "display": "全血(添加物入り)"}
    assert observation["contained"] == [
        {
            "resourceType": "Specimen",
            "id": "specimen",
            "meta": {"profile": ["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Specimen"]},
            "type": {
                "coding": [
                    {
                        "system": "http://jpfhir.jp/fhir/core/CodeSystem/JP_ObservationSampleMaterialCode_CS",
                        "code": "019",
                        "display": "全血(添加物入り)",
                    }
                ],
                "text": "全血(添加物入り)",
            },
        }
    ]
    local, core = observation["code"]["coding"]
    # ASCII in half width, as JP-CLINS asks of the display.
    assert (local["display"], observation["code"]["text"]) == ("HbA1c", "HbA1c")
    assert core == {"system": CORE_LAB, "code": "3D046000001999901", "display": "HbA1c-NGSP"}


def test_lab_local_code_folds_width_case_and_spaces() -> None:
    wide = lab("ＡＳＴ 20", {Field.NAME: "ＡＳＴ", Field.VALUE: "20"}, quantity=Quantity(value=Decimal(20)))
    spaced = lab("a s t 20", {Field.NAME: "a s t", Field.VALUE: "20"}, quantity=Quantity(value=Decimal(20)))
    other = lab("ALT 20", {Field.NAME: "ALT", Field.VALUE: "20"}, quantity=Quantity(value=Decimal(20)))
    assert code_of(wide["code"]) == code_of(spaced["code"]) == "HYJ-bdab28c8c51a75db"
    assert spaced["code"]["coding"][0]["display"] == "ast"
    assert code_of(other["code"]) != code_of(wide["code"])


def test_lab_without_table_entry_is_marked_uncoded() -> None:
    text = "謎検査 3.0 フニ"
    observation = lab(
        text,
        {Field.NAME: "謎検査", Field.VALUE: "3.0", Field.UNIT: "フニ"},
        quantity=Quantity(value=Decimal("3.0"), unit="フニ"),
    )
    assert observation["code"]["coding"][1] == {
        "system": "http://jpfhir.jp/fhir/clins/CodeSystem/JP_CLINS_ObsLabResult_Uncoded_CS",
        "code": "99999999999999999",
        "display": "未標準化コード項目(JLAC)",
    }
    assert observation["valueQuantity"]["unit"] == "フニ"
    assert "code" not in observation["valueQuantity"]
    assert observation["effectiveDateTime"] == "2024-05-01"
    assert "_effectiveDateTime" not in observation
    assert observation["specimen"]["display"] == "不明"


@pytest.mark.parametrize(
    ("unit", "code"),
    [
        ("mg/dL", "mg/dL"),
        ("mg/dl", "mg/dL"),
        ("IU/L", "[IU]/L"),
        ("mEq/L", "meq/L"),
        ("万/uL", "10*4/uL"),
        ("10^3/uL", "10*3/uL"),
        ("mL/分/1.73m2", "mL/min/{1.73_m2}"),
        ("g/gCr", "g/g{creat}"),
        ("秒", "s"),
        ("ug/mL", "ug/mL"),
        ("uIU/mL", "u[IU]/mL"),
        ("吸光度", None),
    ],
)
def test_lab_units_in_ucum(unit: str, code: str | None) -> None:
    quantity = Quantity(value=Decimal("5"), unit=unit)
    observation = lab("X 5", {Field.NAME: "X", Field.VALUE: "5"}, quantity=quantity)
    assert observation["valueQuantity"]["unit"] == unit
    assert observation["valueQuantity"].get("code") == code
    assert observation["valueQuantity"].get("system") == ("http://unitsofmeasure.org" if code else None)


@pytest.mark.parametrize(
    ("name", "jlac10", "text_value", "system", "code"),
    [
        ("便潜血", None, "陽性", "JP_PosNegHold_CS", "1"),
        ("便潜血", None, "陰性", "JP_PosNegHold_CS", "2"),
        ("抗体", None, "判定保留", "JP_PosNegHold_CS", "3"),
        ("尿蛋白", "1A990000000100053", "2+", "JP_Urine_Code_CS", "4"),
        ("尿ケトン体", None, "-", "JP_Urine_Code_CS", "1"),
        ("U-Glu", None, "±", "JP_Urine_Code_CS", "2"),
        ("血液型", "5H010000001910114", "AB", "JP_BldABO_CS", "3"),
        ("Rh", "5H020000001910114", "+", "JP_BldRh_CS", "1"),
    ],
)
def test_qualitative_results(name: str, jlac10: str | None, text_value: str, system: str, code: str) -> None:
    codings = (Coding(system=CORE_LAB, code=jlac10, display="x"),) if jlac10 else ()
    text = f"{name} （{text_value}）"
    observation = lab(text, {Field.NAME: name, Field.VALUE: text_value}, codings=codings, text_value=text_value)
    value = observation["valueCodeableConcept"]
    assert (value["coding"][0]["system"], value["coding"][0]["code"], value["text"]) == (
        f"http://jpfhir.jp/fhir/LaboResult/CodeSystem/{system}",
        code,
        text_value,
    )
    assert quoted(value, text) == [text_value]


@pytest.mark.parametrize("name", ["CRP", "尿酸", "尿素窒素"])
def test_a_grade_outside_urine_has_no_code(name: str) -> None:
    text = f"{name} 2+"
    observation = lab(text, {Field.NAME: name, Field.VALUE: "2+"}, text_value="2+")
    assert observation["valueString"] == "2+"
    assert quoted(observation["_valueString"], text) == ["2+"]


def test_a_value_that_was_not_understood_stays_as_written() -> None:
    observation = lab("血沈 測定不能", {Field.NAME: "血沈", Field.VALUE: "測定不能"})
    assert observation["valueString"] == "測定不能"
    empty = lab("血沈を提出", {Field.NAME: "血沈"})
    assert empty["status"] == "registered"
    assert empty["dataAbsentReason"]["text"] == "結果の記載なし"


@pytest.mark.parametrize(
    ("flag", "code"), [("H", "H"), ("Ｈ", "H"), ("↑", "H"), ("高値", "H"), ("(L)", "L"), ("↓", "L"), ("低値", "L")]
)
def test_flags(flag: str, code: str) -> None:
    text = f"K 5.9 {flag}"
    quantity = Quantity(value=Decimal("5.9"))
    observation = lab(text, {Field.NAME: "K", Field.VALUE: "5.9", Field.FLAG: flag}, quantity=quantity, flag=flag)
    interpretation = observation["interpretation"][0]
    assert code_of(interpretation) == code
    assert interpretation["text"] == flag.replace("Ｈ", "H")  # no full-width letters in what is shown
    assert quoted(interpretation, text) == [flag]


def test_infection_result_alone_and_beside_a_number() -> None:
    text = "HBs抗原 陽性 250 IU/mL"
    shared = Coding(system=INFECTION_LAB, code="5F016141002302311", display="HBs抗原(定性)")
    quotes = {Field.NAME: "HBs抗原", Field.VALUE: "陽性"}
    alone = Record(
        statement=statement(text, Kind.INFECTION, quotes, result=InfectionResult.POSITIVE),
        display="HBs抗原(定性)",
        codings=(shared,),
    )
    [observation] = converted(text, alone, facility=FACILITY)
    assert observation["valueCodeableConcept"]["coding"] == [
        {"system": "http://jpfhir.jp/fhir/LaboResult/CodeSystem/JP_PosNegHold_CS", "code": "1", "display": "陽性"}
    ]
    assert observation["valueCodeableConcept"]["text"] == "陽性"
    assert [c["display"] for c in observation["code"]["coding"]] == ["HBs抗原", "HBs抗原(定性)"]
    assert profile_of(observation) == "JP_Observation_LabResult_eCS"
    both = alone.model_copy(update={"quantity": Quantity(value=Decimal("250"), unit="IU/mL")})
    [observation] = converted(text, both)
    assert observation["valueQuantity"]["value"] == Decimal(250)
    assert "valueCodeableConcept" not in observation
    assert code_of(observation["interpretation"][0]) == "POS"
    assert observation["interpretation"][0]["text"] == "陽性"


@pytest.mark.parametrize(
    ("result", "code", "interpretation"),
    [(InfectionResult.NEGATIVE, "2", "NEG"), (InfectionResult.INDETERMINATE, "3", "IND")],
)
def test_infection_other_results(result: InfectionResult, code: str, interpretation: str) -> None:
    made = statement("HCV抗体", Kind.INFECTION, {Field.NAME: "HCV抗体"}, result=result)
    [observation] = converted("HCV抗体", Record(statement=made, display="HCV抗体"))
    assert code_of(observation["valueCodeableConcept"]) == code
    number = Record(statement=made, display="HCV抗体", quantity=Quantity(value=Decimal("0.1")))
    [observation] = converted("HCV抗体", number)
    assert code_of(observation["interpretation"][0]) == interpretation


# --- the hospital's own codes ---


def one_lab(name: str, note_text: str | None = None, **rest: Any) -> tuple[dict[str, Any], list[Issue]]:
    text = note_text or f"{name} 4.5"
    made = statement(text, Kind.LAB, {Field.NAME: name, Field.VALUE: "4.5"})
    record = Record(statement=made, display=name, quantity=Quantity(value=Decimal("4.5")), **rest)
    resources, issues = built(note_of(text), [record], FACILITY)
    return of_records(resources)[0], issues


def test_the_hospitals_own_code_stands_first_and_names_the_item() -> None:
    local = Coding(system="http://hospital.example/items", code="10000181802_1", display="ｶﾘｳﾑ　＿血清", version="7")
    observation, _ = one_lab("Ｋ", local=local, codings=(K,))
    assert observation["code"]["coding"] == [
        {"system": LOCAL_LAB, "version": "7", "code": "10000181802_1", "display": "カリウム_血清"},
        {"system": CORE_LAB, "code": "3H015000002399901", "display": "K"},
    ]
    assert observation["code"]["text"] == "カリウム_血清"


@pytest.mark.parametrize(("code", "display"), [("K 1", "カリウム"), ("Ｋ１", "カリウム"), ("K1", "　")])
def test_a_hospital_code_of_another_form_is_reported_and_ours_is_used(code: str, display: str) -> None:
    observation, issues = one_lab("K", local=Coding(system="x", code=code, display=display))
    local, uncoded = observation["code"]["coding"]
    assert local["code"].startswith("HYJ-")
    assert (local["display"], uncoded["code"]) == ("K", "9" * 17)
    assert [(i.start, i.end) for i in issues if "item code" in i.text] == [(0, 1)]


def test_the_display_changes_widths_and_nothing_else() -> None:
    observation, _ = one_lab("γ－ＧＴＰ①㎎ﾊﾟ", "γ－ＧＴＰ①㎎ﾊﾟ 4.5")
    assert observation["code"]["text"] == "γ-GTP①㎎パ"


def test_a_code_of_another_system_does_not_replace_a_standard_one() -> None:
    loinc = Coding(system="http://loinc.org", code="2823-3", display="Potassium")
    observation, _ = one_lab("K", codings=(loinc,))
    assert [c["code"] for c in observation["code"]["coding"]][1:] == ["9" * 17, "2823-3"]
    observation, _ = one_lab("K", codings=(loinc, K))
    assert [c["code"] for c in observation["code"]["coding"]][1:] == ["2823-3", "3H015000002399901"]


# --- reference ranges ---


def ranged(text: str, written: str, interval: ReferenceRange, **rest: Any) -> tuple[dict[str, Any], list[Issue]]:
    quotes = {Field.NAME: "K", Field.VALUE: "4.50", Field.REFERENCE: written}
    made = statement(text, Kind.LAB, quotes)
    values = {"quantity": Quantity(value=Decimal("4.50"), unit="mEq/L")} | rest
    record = Record(statement=made, display="K", codings=(K,), reference_range=interval, **values)
    resources, issues = built(note_of(text), [record], FACILITY)
    return of_records(resources)[0], issues


def test_a_reference_range_has_the_very_unit_of_the_value() -> None:
    text = "K 4.50 mEq/L (3.50-5.0)"
    interval = ReferenceRange(low=Decimal("3.50"), high=Decimal("5.0"))
    observation, _ = ranged(text, "(3.50-5.0)", interval)
    unit = {"unit": "mEq/L", "system": "http://unitsofmeasure.org", "code": "meq/L"}
    assert bare(observation["valueQuantity"]) == {"value": Decimal("4.50"), **unit}
    [found] = observation["referenceRange"]
    assert (found["low"], found["high"]) == ({"value": Decimal("3.50"), **unit}, {"value": Decimal("5.0"), **unit})
    # The profile forbids extensions on the range and on its limits.
    assert "extension" not in found
    assert found["text"] == "(3.50-5.0)"
    assert quoted(found["_text"], text) == ["(3.50-5.0)"]
    assert '"value":3.50' in dumps(observation)


@pytest.mark.parametrize("unit", [None, "フニ"])
def test_a_reference_range_follows_a_value_without_a_known_unit(unit: str | None) -> None:
    observation, _ = ranged(
        "K 4.50 (<5.0)",
        "<5.0",
        ReferenceRange(high=Decimal("5.0")),
        quantity=Quantity(value=Decimal("4.50"), unit=unit),
    )
    [found] = observation["referenceRange"]
    assert found["high"] == {"value": Decimal("5.0")} | ({"unit": unit} if unit else {})
    assert "low" not in found


def test_a_reference_range_upside_down_or_beside_a_word_is_text_alone() -> None:
    text = "K 4.50 mEq/L (5.0-3.5)"
    upside_down = ReferenceRange(low=Decimal("5.0"), high=Decimal("3.5"))
    observation, issues = ranged(text, "5.0-3.5", upside_down)
    assert set(observation["referenceRange"][0]) == {"text", "_text"}
    assert any("lower limit" in issue.text for issue in issues)
    observation, _ = ranged(text, "5.0-3.5", ReferenceRange(low=Decimal("3.5")), quantity=None, text_value="陰性")
    assert set(observation["referenceRange"][0]) == {"text", "_text"}


# --- visit and physician ---


def test_the_ordering_physician_is_the_performer() -> None:
    note = known_note("K 4.5")
    made = statement(note.text, Kind.LAB, {Field.NAME: "K", Field.VALUE: "4.5"})
    record = Record(statement=made, display="K", codings=(K,), quantity=Quantity(value=Decimal("4.5")))
    resources, issues = built(note, [record], FACILITY)
    [observation] = of_records(resources)
    assert [(r["resourceType"], r["id"]) for r in observation["contained"]] == [
        ("Encounter", "encounter"),
        ("Specimen", "specimen"),
        ("Practitioner", "practitioner"),
    ]
    assert observation["performer"] == [{"reference": "#practitioner", "type": "Practitioner", "display": "佐藤 一郎"}]
    assert observation["encounter"] == {"reference": "#encounter", "display": "外来"}
    assert profile_of(observation) == "JP_Observation_LabResult_eCS"
    assert "tag" not in observation["meta"]
    assert gaps(issues) == []


def test_what_a_clins_bundle_demands_of_a_result() -> None:
    note = known_note("K 4.5", encounter=None, physician=None)
    made = statement(note.text, Kind.LAB, {Field.NAME: "K", Field.VALUE: "4.5"})
    _, issues = built(note, [Record(statement=made, display="K", quantity=Quantity(value=Decimal("4.5")))], FACILITY)
    assert gaps(issues) == [
        "Observation.encounter: not stated; cannot be sent in a CLINS Bundle",
        "Observation.performer: not stated; cannot be sent in a CLINS Bundle",
    ]
    nameless = known_note("K 4.5").physician
    assert nameless is not None
    note = known_note("K 4.5", physician=nameless.model_copy(update={"id": None}))
    _, issues = built(note, [Record(statement=made, display="K", quantity=Quantity(value=Decimal("4.5")))], FACILITY)
    assert gaps(issues) == ["Observation.performer.identifier: not stated; cannot be sent in a CLINS Bundle"]


@pytest.mark.parametrize("computed", [None, "2024-02-30"])
def test_a_stated_date_that_cannot_be_computed_does_not_become_the_notes_day(computed: str | None) -> None:
    text = "前回 K 5.9"
    made = statement(text, Kind.LAB, {Field.NAME: "K", Field.VALUE: "5.9", Field.DATE: "前回"})
    record = Record(statement=made, display="K", quantity=Quantity(value=Decimal("5.9")), date=computed)
    resources, issues = built(known_note(text), [record], FACILITY)
    [observation] = of_records(resources)
    assert "effectiveDateTime" not in observation and profile_of(observation) == "JP_Observation_LabResult"
    absent, _ = observation["_effectiveDateTime"]["extension"]
    assert absent == {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
    assert quoted(observation["_effectiveDateTime"], text) == ["前回"]
    assert any(gap.startswith("Observation.effectiveDateTime") for gap in gaps(issues))


def test_texts_of_a_result_have_the_usual_widths() -> None:
    text = "ｱﾙﾌﾞﾐﾝ ｷｮｳﾖｳｾｲ (３.５-５.０) ｺｳﾁ"
    quotes = {Field.NAME: "ｱﾙﾌﾞﾐﾝ", Field.VALUE: "ｷｮｳﾖｳｾｲ", Field.REFERENCE: "(３.５-５.０)", Field.FLAG: "ｺｳﾁ"}
    observation = lab(text, quotes, reference_range=ReferenceRange(low=Decimal("3.5")), flag="ｺｳﾁ")
    assert observation["code"]["text"] == "アルブミン" and observation["valueString"] == "キョウヨウセイ"
    assert observation["referenceRange"][0]["text"] == "(3.5-5.0)"
    assert observation["interpretation"][0]["text"] == "コウチ"

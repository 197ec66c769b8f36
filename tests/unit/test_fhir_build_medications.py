"""処方: records to MedicationRequest, through the public face, with the literal JSON expected."""

from decimal import Decimal
from typing import Any

import pytest
from fhir_cases import (
    FACILITY,
    KNOWN_PATIENT,
    RESOURCE_ID,
    bare,
    built,
    converted,
    extension_of,
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
from schemas.record import Dosage, Record
from schemas.statement import Action, Field, Kind

EPD = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUsage_ePrescription"
JAMI = "http://jami.jp/CodeSystem/MedicationUsage"
YJ = "http://capstandard.jp/iyaku.info/CodeSystem/YJ-code"
PERIOD = "http://jpfhir.jp/fhir/core/Extension/StructureDefinition/JP_MedicationDosage_PeriodOfUse"
MERIT9 = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUnitMERIT9Code"
DUMMY_USAGE = {
    "system": "http://jpfhir.jp/fhir/clins/CodeSystem/JP_CLINS_MedicationUsage_Uncoded_CS",
    "code": "0X0XXXXXXXXX0000",
    "display": "ダミー用法コード",
}
DAY = {"value": Decimal(1), "unit": "日", "system": "http://unitsofmeasure.org", "code": "d"}


def prescription(
    text: str, quotes: dict[Field, str], dosage: Dosage | None, action: Action = Action.PRESCRIBE
) -> dict[str, Any]:
    made = statement(text, Kind.PRESCRIPTION, quotes, action=action)
    [request] = converted(text, Record(statement=made, display=quotes[Field.NAME], dosage=dosage))
    assert profile_of(request) == "JP_MedicationRequest"
    return request


def test_prescription_numbers() -> None:
    text = "アムロジピンOD錠5mg 2錠 分2 朝夕食後 28日分"
    quotes = {
        Field.NAME: "アムロジピンOD錠5mg",
        Field.DOSE: "2錠",
        Field.USAGE: "分2 朝夕食後",
        Field.DAYS: "28日分",
    }
    dosage = Dosage(dose=Decimal("1"), dose_unit="錠", per_day=2, days=28, text="2錠 分2 朝夕食後")
    request = prescription(text, quotes, dosage)
    assert (request["status"], request["intent"], request["authoredOn"]) == ("active", "order", "2024-05-01")
    medication = request["medicationCodeableConcept"]
    assert medication["text"] == "アムロジピンOD錠5mg"
    assert medication["coding"] == [
        {
            "system": "http://jpfhir.jp/fhir/eCS/CodeSystem/MedicationCodeNocoded_CS",
            "code": "NOCODED",
            "display": "標準コードなし",
        }
    ]
    [instruction] = request["dosageInstruction"]
    assert instruction["text"] == "2錠 分2 朝夕食後"
    repeat = instruction["timing"]["repeat"]
    assert bare(repeat["boundsDuration"]) == DAY | {"value": Decimal(28)}
    assert quoted(repeat["boundsDuration"], text) == ["28日分"]
    assert {k: v for k, v in repeat.items() if k != "boundsDuration"} == {
        "frequency": 2,
        "period": 1,
        "periodUnit": "d",
    }
    assert instruction["timing"]["code"]["text"] == "分2 朝夕食後"
    assert "coding" not in instruction["timing"]["code"]
    assert "asNeededBoolean" not in instruction
    dose = instruction["doseAndRate"][0]["doseQuantity"]
    assert (dose["value"], dose["unit"], dose["code"]) == (Decimal(1), "錠", "TAB")
    assert dose["system"] == "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUnitMERIT9Code"
    assert quoted(dose, text) == ["2錠"]
    assert quoted(instruction, text) == ["2錠", "分2 朝夕食後"]
    supply = request["dispenseRequest"]["expectedSupplyDuration"]
    assert bare(supply) == DAY | {"value": Decimal(28)}
    assert quoted(supply, text) == ["28日分"]


@pytest.mark.parametrize(
    ("action", "status", "intent"),
    [
        (Action.PRESCRIBE, "active", "order"),
        (Action.CONTINUE, "active", "order"),
        (Action.CHANGE, "active", "order"),
        (Action.STOP, "stopped", "order"),
        (Action.HISTORY, "completed", "order"),
        (Action.PLAN, "draft", "plan"),
    ],
)
def test_prescription_actions(action: Action, status: str, intent: str) -> None:
    request = prescription("ワーファリン", {Field.NAME: "ワーファリン"}, None, action)
    assert (request["status"], request["intent"]) == (status, intent)
    assert "dosageInstruction" not in request
    assert "dispenseRequest" not in request


def test_as_needed() -> None:
    text = "ロキソニン 1錠 疼痛時"
    quotes = {Field.NAME: "ロキソニン", Field.DOSE: "1錠", Field.USAGE: "疼痛時"}
    request = prescription(text, quotes, Dosage(dose=Decimal(1), dose_unit="錠", as_needed=True))
    [instruction] = request["dosageInstruction"]
    assert instruction["asNeededBoolean"] is True
    assert instruction["text"] == "1錠 疼痛時"
    assert "repeat" not in instruction["timing"]


def test_a_daily_total_is_a_rate_not_a_dose() -> None:
    text = "PSL 15mg/日"
    dosage = Dosage(dose=Decimal("15"), dose_unit="mg/日")
    request = prescription(text, {Field.NAME: "PSL", Field.DOSE: "15mg/日"}, dosage)
    [rate] = request["dosageInstruction"][0]["doseAndRate"]
    assert "doseQuantity" not in rate
    numerator = rate["rateRatio"]["numerator"]
    assert (numerator["value"], numerator["unit"], numerator["code"]) == (Decimal(15), "mg", "MG")
    assert rate["rateRatio"]["denominator"] == {
        "value": Decimal(1),
        "unit": "日",
        "system": "http://unitsofmeasure.org",
        "code": "d",
    }


def test_drugs_that_share_a_usage_are_one_rp() -> None:
    text = "A錠 1錠\nB錠 1錠\n分1 朝食後\nC錠 分3"
    made = [
        statement(text, Kind.PRESCRIPTION, {Field.NAME: name, Field.USAGE: usage}, action=Action.PRESCRIBE)
        for name, usage in (("A錠", "分1 朝食後"), ("B錠", "分1 朝食後"), ("C錠", "分3"))
    ]
    requests = converted(text, *(Record(statement=s, display=s.name.quote) for s in made))
    numbers = [[i["value"] for i in request["identifier"]] for request in requests]
    assert numbers == [["1", "1"], ["1", "2"], ["2", "1"]]


# --- JP_MedicationRequest_eCS ---

TEXT = "アムロジピンOD錠5mg 1日2錠 分2 朝夕食後 28日分"
QUOTES = {Field.NAME: "アムロジピンOD錠5mg", Field.DOSE: "1日2錠", Field.USAGE: "分2 朝夕食後", Field.DAYS: "28日分"}
TABLETS = Dosage(dose=Decimal("1"), dose_unit="錠", per_day=2, days=28, text="1日2錠 分2 朝夕食後 28日分")


def ordered(
    dosage: Dosage | None,
    action: Action = Action.PRESCRIBE,
    text: str = TEXT,
    quotes: dict[Field, str] | None = None,
    **rest: Any,
) -> tuple[dict[str, Any], list[Issue]]:
    made = statement(text, Kind.PRESCRIPTION, quotes or QUOTES, action=action)
    record = Record(statement=made, display=made.name.quote, dosage=dosage, **rest)
    resources, issues = built(known_note(text), [record], FACILITY)
    return of_records(resources)[0], issues


@pytest.mark.parametrize("action", [Action.PRESCRIBE, Action.CONTINUE, Action.CHANGE])
def test_an_order_with_a_whole_dosage_is_ecs(action: Action) -> None:
    request, issues = ordered(TABLETS, action)
    assert gaps(issues) == []
    assert profile_of(request) == "JP_MedicationRequest_eCS"
    assert (request["status"], request["intent"], request["authoredOn"]) == ("completed", "order", "2024-05-01")
    assert [(i["system"].rpartition("/")[2], i["value"]) for i in request["identifier"]] == [
        ("Medication-RPGroupNumber", "1"),
        ("MedicationAdministrationIndex", "1"),
        ("resourceInstance-identifier", f"1311234567^2024^{request['id']}"),
    ]
    assert request["identifier"][2]["system"] == RESOURCE_ID
    [instruction] = request["dosageInstruction"]
    assert extension_of(instruction, PERIOD)["valuePeriod"] == {"start": "2024-05-01"}
    assert instruction["text"] == "1日2錠 分2 朝夕食後 28日分"
    assert instruction["timing"]["code"]["coding"] == [DUMMY_USAGE]
    assert instruction["timing"]["code"]["text"] == "分2 朝夕食後"
    [amount] = instruction["doseAndRate"]
    assert amount["type"]["coding"] == [
        {
            "system": "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationIngredientStrengthStrengthType",
            "code": "1",
            "display": "製剤量",
        }
    ]
    assert bare(amount["doseQuantity"]) == {"value": Decimal(1), "unit": "錠", "system": MERIT9, "code": "TAB"}
    assert amount["rateRatio"]["numerator"] == {"value": Decimal(2), "unit": "錠", "system": MERIT9, "code": "TAB"}
    assert amount["rateRatio"]["denominator"] == DAY
    assert quoted(amount["rateRatio"], TEXT) == ["1日2錠", "分2 朝夕食後"]
    assert request["requester"] == {"reference": "#practitioner", "type": "Practitioner", "display": "佐藤 一郎"}
    assert request["encounter"] == {"reference": "#encounter", "display": "外来"}


@pytest.mark.parametrize("action", [Action.STOP, Action.HISTORY, Action.PLAN])
def test_what_is_no_order_of_the_note_is_not_ecs(action: Action) -> None:
    request, issues = ordered(TABLETS, action)
    assert profile_of(request) == "JP_MedicationRequest"
    assert request["status"] != "active"
    assert gaps(issues) == [
        "MedicationRequest.status: a stopped, past or planned drug is not a completed order; JP Core profile claimed"
    ]
    assert PERIOD not in [e["url"] for e in request["dosageInstruction"][0]["extension"]]


def test_the_usage_code_of_the_tables_replaces_the_dummy_and_jami_may_stand_beside_either() -> None:
    epd = Coding(system=EPD, code="1012040400000000", display="１日２回朝夕食後　服用")
    jami = Coding(system=JAMI, code="1012040400000000", display="内服・経口・１日２回朝夕食後")

    def systems(*usage: Coding) -> list[str]:
        request, _ = ordered(TABLETS.model_copy(update={"usage": usage}))
        assert profile_of(request) == "JP_MedicationRequest_eCS"
        return [c["system"] for c in request["dosageInstruction"][0]["timing"]["code"]["coding"]]

    assert systems(jami, epd) == [EPD, JAMI]
    assert systems(epd, epd.model_copy(update={"code": "1012040400000001"})) == [EPD]
    assert systems(jami) == [DUMMY_USAGE["system"], JAMI]


@pytest.mark.parametrize("unit", ["mg", "μg", "g", "単位", "mg/日"])
def test_an_amount_of_a_substance_does_not_say_of_what_it_is(unit: str) -> None:
    request, issues = ordered(TABLETS.model_copy(update={"dose": Decimal("2.50"), "dose_unit": unit}))
    assert profile_of(request) == "JP_MedicationRequest"
    assert request["status"] == "active"
    [gap] = gaps(issues)
    assert gap.startswith("MedicationRequest.dosageInstruction.doseAndRate.type: ")
    assert gap.endswith("; JP Core profile claimed")
    [amount] = request["dosageInstruction"][0]["doseAndRate"]
    assert "type" not in amount
    assert ("doseQuantity" in amount) == (unit != "mg/日")


@pytest.mark.parametrize("unit", ["カプセル", "包", "枚", "本", "個", "滴", "mL"])
def test_pieces_and_volumes_are_of_the_product(unit: str) -> None:
    request, _ = ordered(TABLETS.model_copy(update={"dose_unit": unit}))
    assert profile_of(request) == "JP_MedicationRequest_eCS"
    assert request["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["unit"] == unit


def test_a_usage_that_is_not_stated_is_named() -> None:
    quotes = {Field.NAME: QUOTES[Field.NAME], Field.DOSE: "1日2錠"}
    request, issues = ordered(Dosage(dose=Decimal(2), dose_unit="錠/日", text="1日2錠"), quotes=quotes)
    assert profile_of(request) == "JP_MedicationRequest"
    assert gaps(issues) == [
        "MedicationRequest.dosageInstruction.timing.code: the usage is not stated; JP Core profile claimed"
    ]


@pytest.mark.parametrize("unit", ["吸入", None, ""])
def test_a_unit_without_a_code_leaves_the_amount_in_the_text(unit: str | None) -> None:
    """JP Core demands a unit code of every amount of a drug."""
    request, issues = ordered(TABLETS.model_copy(update={"dose_unit": unit}))
    [instruction] = request["dosageInstruction"]
    assert "doseAndRate" not in instruction
    assert instruction["text"] == TABLETS.text
    assert quoted(instruction, TEXT) == ["1日2錠", "分2 朝夕食後"]
    assert any("MERIT-9" in text for text in gaps(issues))
    assert profile_of(request) == "JP_MedicationRequest_eCS"


def test_an_amount_per_week_is_a_quantity_with_its_written_unit() -> None:
    text = "MTX 6mg/週"
    request, _ = ordered(
        Dosage(dose=Decimal(6), dose_unit="mg/週"), text=text, quotes={Field.NAME: "MTX", Field.DOSE: "6mg/週"}
    )
    [amount] = request["dosageInstruction"][0]["doseAndRate"]
    assert bare(amount["rateQuantity"]) == {"value": Decimal(6), "unit": "mg/週"}
    assert "rateRatio" not in amount


@pytest.mark.parametrize(
    ("dose", "unit", "usage", "usage_code", "total"),
    [
        ("2本", "本", "1日数回 塗布", None, True),
        ("2本", "本", "1日1回", "2B7N000000000000", True),
        ("10g", "g", "1日2回塗布", None, True),
        ("5mL", "mL", "1日4回点眼", None, True),
        ("1回1本", "本", "1日1回 塗布", None, False),
        ("1滴", "滴", "1日4回点眼", None, False),
        ("1枚", "枚", "1日1回貼付", None, False),
        ("1本", "本", "毎食後", None, False),
        ("2本", "本", "塗布", "1011000100000000", False),
    ],
)
def test_the_whole_amount_of_an_external_drug_is_what_is_dispensed(
    dose: str, unit: str, usage: str, usage_code: str | None, total: bool
) -> None:
    text = f"ヒルドイド {dose} {usage}"
    codings = (Coding(system=EPD, code=usage_code, display="x"),) if usage_code else ()
    number = Decimal("".join(c for c in dose.replace("1回", "") if c.isdigit()))
    request, _ = ordered(
        Dosage(dose=number, dose_unit=unit, per_day=1, usage=codings),
        text=text,
        quotes={Field.NAME: "ヒルドイド", Field.DOSE: dose, Field.USAGE: usage},
    )
    dispensed = request.get("dispenseRequest", {}).get("quantity")
    assert (dispensed is not None) == total
    assert ("doseAndRate" in request["dosageInstruction"][0]) != total
    if dispensed:
        assert (dispensed["value"], dispensed["unit"]) == (number, unit)
        assert quoted(dispensed, text) == [dose]
        assert profile_of(request) == "JP_MedicationRequest_eCS"


def test_as_needed_has_no_daily_rate() -> None:
    text = "ロキソニン 1錠 疼痛時 1日3回まで"
    quotes = {Field.NAME: "ロキソニン", Field.DOSE: "1錠", Field.USAGE: "疼痛時 1日3回まで"}
    request, _ = ordered(Dosage(dose=Decimal(1), dose_unit="錠", per_day=3, as_needed=True), text=text, quotes=quotes)
    [instruction] = request["dosageInstruction"]
    assert instruction["asNeededBoolean"] is True
    assert "rateRatio" not in instruction["doseAndRate"][0]
    assert profile_of(request) == "JP_MedicationRequest_eCS"


def test_a_daily_amount_is_exact() -> None:
    long = Decimal("0.1234567890123456789012345678901")
    request, _ = ordered(TABLETS.model_copy(update={"dose": long, "per_day": 3}))
    assert '"value":0.3703703670370370367037037036703' in dumps(request)


def test_drug_codes_one_of_each_system_and_the_text_as_written() -> None:
    codings = (
        Coding(system=YJ, code="2171022F4029", display="アムロジピンＯＤ錠５ｍｇ「明治」"),
        Coding(system=YJ, code="2171022F4037", display="アムロジピンＯＤ錠５ｍｇ「ＪＧ」"),
        Coding(system="http://medis.or.jp/CodeSystem/master-HOT9", code="119308401", display="a"),
        Coding(system="http://medis.or.jp/CodeSystem/master-HOT9", code="119308402", display="b"),
    )
    request, _ = ordered(TABLETS, codings=codings)
    medication = request["medicationCodeableConcept"]
    assert [c["code"] for c in medication["coding"]] == ["2171022F4029", "119308401", "119308402"]
    assert medication["text"] == "アムロジピンOD錠5mg"


def test_what_the_documents_demand_beyond_the_profile() -> None:
    made = statement(TEXT, Kind.PRESCRIPTION, QUOTES, action=Action.PRESCRIBE)
    note = note_of(TEXT, patient=KNOWN_PATIENT)
    _, issues = built(note, [Record(statement=made, display="x", dosage=TABLETS)], FACILITY)
    assert [text for text in gaps(issues) if text.startswith("MedicationRequest")] == [
        "MedicationRequest.encounter: not stated; cannot be sent in a CLINS document",
        "MedicationRequest.requester: not stated; cannot be sent in a CLINS document",
    ]
    _, issues = built(note_of(TEXT), [Record(statement=made, display="x", dosage=TABLETS)], None)
    assert [text for text in gaps(issues) if text.startswith("MedicationRequest")] == [
        "MedicationRequest.identifier: institution number of the facility is missing; JP Core profile claimed"
    ]

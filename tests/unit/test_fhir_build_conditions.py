"""傷病名: records to Condition and FamilyMemberHistory, through the public face, with the literal JSON expected."""

from decimal import Decimal

import pytest
from fhir_cases import (
    CORE,
    DEPARTMENT,
    DEPARTMENT_EXTENSION,
    ECS,
    FACILITY,
    HYPERTENSION,
    ICD10,
    INSTITUTION_EXTENSION,
    KNOWN_PATIENT,
    MEDIS,
    RECEIPT,
    RESOURCE_ID,
    built,
    code_of,
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

from schemas.coding import Coding
from schemas.record import Modifier, ModifierPosition, Record
from schemas.statement import Assertion, Field, Kind

MODIFIER = "http://medis.or.jp/CodeSystem/master-disease-modKeyNumber"
MODIFIER_EXCHANGE = "http://medis.or.jp/CodeSystem/master-disease-modExCode"
PREFIX = "http://jpfhir.jp/fhir/core/Extension/StructureDefinition/JP_Condition_DiseasePrefixModifier"
POSTFIX = "http://jpfhir.jp/fhir/core/Extension/StructureDefinition/JP_Condition_DiseasePostfixModifier"
UNCODED = {"system": MEDIS, "code": "99999999", "display": "未コード化傷病名"}


@pytest.mark.parametrize(
    ("assertion", "clinical", "verification", "category"),
    [
        (Assertion.PRESENT, "active", "confirmed", "encounter-diagnosis"),
        (Assertion.SUSPECTED, "active", "unconfirmed", "encounter-diagnosis"),
        (Assertion.ABSENT, "inactive", "refuted", "encounter-diagnosis"),
        (Assertion.PAST, "resolved", "confirmed", "problem-list-item"),
    ],
)
def test_condition_status(assertion: Assertion, clinical: str, verification: str, category: str) -> None:
    text = "2019年4月 脳梗塞"
    made = statement(text, Kind.CONDITION, {Field.NAME: "脳梗塞", Field.ONSET: "2019年4月"}, assertion=assertion)
    [condition] = converted(text, Record(statement=made, display="脳梗塞", date="2019-04"))
    assert condition["resourceType"] == "Condition"
    assert code_of(condition["clinicalStatus"]) == clinical
    assert code_of(condition["verificationStatus"]) == verification
    assert code_of(condition["category"][0]) == category
    assert condition["onsetDateTime"] == "2019-04"
    assert quoted(condition["_onsetDateTime"], text) == ["2019年4月"]
    assert condition["recordedDate"] == "2024-05-01"


@pytest.mark.parametrize(
    ("assertion", "profile", "category"),
    [
        (Assertion.PRESENT, "JP_Condition_eCS", "encounter-diagnosis"),
        # JP_Condition_eCS: the service takes encounter-diagnosis alone.
        (Assertion.PAST, "JP_Condition_eCS", "encounter-diagnosis"),
        # Its clinicalStatus `inactive` is one that JP-CLINS does not use.
        (Assertion.ABSENT, "JP_Condition", "encounter-diagnosis"),
    ],
)
def test_what_jp_clins_asks_of_status_and_category(assertion: Assertion, profile: str, category: str) -> None:
    text = "脳梗塞"
    made = statement(text, Kind.CONDITION, {Field.NAME: "脳梗塞"}, assertion=assertion)
    resources, issues = built(known_note(text), [Record(statement=made, display="脳梗塞")], FACILITY)
    [condition] = of_records(resources)
    assert profile_of(condition) == profile and code_of(condition["category"][0]) == category
    denied = [g for g in gaps(issues) if g.startswith("Condition.clinicalStatus")]
    assert bool(denied) is (assertion is Assertion.ABSENT)


def test_condition_keeps_the_codings_of_the_tables_and_its_evidence() -> None:
    text = "#1 HT コントロール良好"
    made = statement(text, Kind.CONDITION, {Field.NAME: "HT"}, confidence=0.987654)
    [condition] = converted(text, Record(statement=made, display="高血圧症", codings=HYPERTENSION))
    assert condition["code"]["text"] == "HT"
    assert condition["code"]["coding"] == [
        {"system": RECEIPT, "code": "8833421", "display": "高血圧症"},
        {"system": ICD10, "version": "2013", "code": "I10", "display": "高血圧症"},
    ]
    assert quoted(condition, text) == quoted(condition["code"], text) == ["HT"]
    assert condition["extension"][-1] == {
        "url": "http://hyojun.local/fhir/StructureDefinition/confidence",
        "valueDecimal": Decimal("0.9877"),
    }
    assert condition["meta"]["profile"] == [f"{CORE}Condition"]
    assert "contained" not in condition
    assert "onsetDateTime" not in condition


def test_condition_without_coding_gets_the_dummy_code() -> None:
    text = "原因不明の浮動感"
    [condition] = converted(
        text, Record(statement=statement(text, Kind.CONDITION, {Field.NAME: "浮動感"}), display="浮動感")
    )
    assert condition["code"] == {
        "extension": condition["code"]["extension"],
        "coding": [
            {
                "system": "http://medis.or.jp/CodeSystem/master-disease-keyNumber",
                "code": "99999999",
                "display": "未コード化傷病名",
            }
        ],
        "text": "浮動感",
    }


def test_condition_of_a_known_facility_is_ecs() -> None:
    text = "高血圧"
    made = statement(text, Kind.CONDITION, {Field.NAME: "高血圧"})
    record = Record(statement=made, display="高血圧症", codings=HYPERTENSION)
    resources, _ = built(note_of(text, patient=KNOWN_PATIENT), [record], FACILITY, DEPARTMENT)
    [condition] = of_records(resources)
    assert condition["meta"] == {"lastUpdated": "2024-05-02T09:30:00.000+00:00", "profile": [f"{ECS}Condition_eCS"]}
    # JP_Condition_eCS: the 管理番号 slice is mandatory beside other codings.
    assert [c["code"] for c in condition["code"]["coding"]] == ["99999999", "8833421", "I10"]
    assert condition["code"]["coding"][0] == UNCODED
    assert condition["identifier"] == [{"system": RESOURCE_ID, "value": f"1311234567^2024^{condition['id']}"}]
    assert condition["extension"][1:] == [
        {
            "url": INSTITUTION_EXTENSION,
            "valueIdentifier": {
                "system": "http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no",
                "value": "1311234567",
            },
        },
        {
            "url": DEPARTMENT_EXTENSION,
            "valueCodeableConcept": {
                "coding": [{"system": DEPARTMENT.system, "code": "01", "display": "内科"}],
                "text": "内科",
            },
        },
    ]


def test_a_department_that_no_table_knows_is_text_alone() -> None:
    made = statement("高血圧", Kind.CONDITION, {Field.NAME: "高血圧"})
    note = note_of("高血圧", department="内科　第二")
    [condition] = converted(note.text, Record(statement=made, display="高血圧"), facility=FACILITY, note=note)
    assert extension_of(condition, DEPARTMENT_EXTENSION)["valueCodeableConcept"] == {"text": "内科 第二"}


def test_the_codings_stand_in_the_order_of_the_profile_and_the_text_is_as_written() -> None:
    text = "HT 増悪"
    made = statement(text, Kind.CONDITION, {Field.NAME: "HT"})
    exchange = Coding(system="http://medis.or.jp/CodeSystem/master-disease-exCode", code="UC3M", display="高血圧症")
    number = Coding(system=MEDIS, code="20054681", display="高血圧症", version="5.11")
    codings = (*reversed(HYPERTENSION), exchange, number)
    [condition] = converted(text, Record(statement=made, display="高血圧症", codings=codings), facility=FACILITY)
    assert [c["system"] for c in condition["code"]["coding"]] == [MEDIS, exchange.system, RECEIPT, ICD10]
    assert condition["code"]["coding"][0]["version"] == "5.11"
    assert condition["code"]["text"] == "HT"


def test_modifiers_are_extensions_and_stay_in_the_text() -> None:
    text = "左前腕骨折の術後"
    made = statement(text, Kind.CONDITION, {Field.NAME: "左前腕骨折の術後"})
    left = (
        Coding(system="http://jpfhir.jp/fhir/core/mhlw/CodeSystem/masterZ-disease-modifier", code="2056", display="左"),
        Coding(system=MODIFIER_EXCHANGE, code="Z2056", display="左"),
        Coding(system=MODIFIER, code="27000358", display="左"),
        Coding(system=MODIFIER, code="27000359", display="左側"),
    )
    after = (Coding(system=MODIFIER, code="27000400", display="の術後"),)
    record = Record(
        statement=made,
        display="前腕骨折",
        codings=(Coding(system=MEDIS, code="20080427", display="前腕骨折"),),
        modifiers=(
            Modifier(position=ModifierPosition.PREFIX, text="左", codings=left),
            Modifier(position=ModifierPosition.POSTFIX, text="の術後", codings=after),
        ),
    )
    [condition] = converted(text, record, facility=FACILITY)
    assert quoted(condition["code"], text) == ["左前腕骨折の術後"]
    # The 管理番号 exactly once, the others once each.
    assert extension_of(condition["code"], PREFIX)["valueCodeableConcept"] == {
        "coding": [{"system": c.system, "code": c.code, "display": "左"} for c in (left[2], left[1], left[0])]
    }
    assert extension_of(condition["code"], POSTFIX)["valueCodeableConcept"]["coding"][0]["code"] == "27000400"
    assert condition["code"]["text"] == "左前腕骨折の術後"
    assert [c["code"] for c in condition["code"]["coding"]] == ["20080427"]


@pytest.mark.parametrize("codings", [(), (Coding(system=MODIFIER_EXCHANGE, code="Z2056", display="左"),)])
def test_a_modifier_without_its_number_stands_in_the_text_alone(codings: tuple[Coding, ...]) -> None:
    text = "左ミナモ症"
    made = statement(text, Kind.CONDITION, {Field.NAME: text})
    modifier = Modifier(position=ModifierPosition.PREFIX, text="左", codings=codings)
    record = Record(statement=made, display="ミナモ症", modifiers=(modifier,))
    resources, issues = built(note_of(text), [record], FACILITY)
    [condition] = of_records(resources)
    assert [e["url"] for e in condition["code"]["extension"] if "Modifier" in e["url"]] == []
    assert condition["code"]["text"] == "左ミナモ症"
    [issue] = [i for i in issues if "修飾語管理番号" in i.text]
    assert (issue.start, issue.end) == (0, 5)


def test_the_visit_and_the_physician_are_contained_and_referred_to() -> None:
    note = known_note("高血圧")
    made = statement(note.text, Kind.CONDITION, {Field.NAME: "高血圧"})
    resources, issues = built(note, [Record(statement=made, display="高血圧", date="2024")], FACILITY)
    [condition] = of_records(resources)
    encounter, physician = condition["contained"]
    assert encounter == {
        "resourceType": "Encounter",
        "id": "encounter",
        "meta": {"profile": [f"{ECS}Encounter_eCS"]},
        "identifier": [{"system": RESOURCE_ID, "value": "1311234567^2024^V-77"}],
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB", "display": "外来"},
        "period": {"start": "2024-05-01"},
    }
    assert physician["meta"] == {"profile": [f"{ECS}Practitioner_eCS"]}
    assert physician["identifier"] == [{"system": "urn:oid:1.2.392.100495.20.3.41.11311234567", "value": "D001"}]
    assert physician["name"][0]["text"] == "佐藤 一郎"
    assert condition["encounter"] == {"reference": "#encounter", "display": "外来"}
    assert condition["recorder"] == {"reference": "#practitioner", "type": "Practitioner", "display": "佐藤 一郎"}
    assert gaps(issues) == []


def test_what_a_clins_bundle_demands_beyond_the_profile_is_named_once_with_a_count() -> None:
    text = "肺炎 胃炎 腸炎"
    records = [
        Record(statement=statement(text, Kind.CONDITION, {Field.NAME: name}), display=name) for name in text.split()
    ]
    records[0] = records[0].model_copy(update={"date": "2024-04"})
    _, issues = built(known_note(text, encounter=None), records, FACILITY)
    assert gaps(issues) == [
        "Condition.encounter: not stated (3 resources); cannot be sent in a CLINS Bundle",
        "Condition.onsetDateTime: not stated (2 resources); cannot be sent in a CLINS Bundle",
    ]
    # Where no CLINS profile is claimed at all, what its Bundle demands is not worth a line.
    _, issues = built(known_note(text, encounter=None), records, None)
    assert not any("CLINS Bundle" in text for text in gaps(issues))


@pytest.mark.parametrize(
    ("written", "role"),
    [
        ("父", "FTH"),
        ("母親", "MTH"),
        ("母方祖母", "MGRMTH"),
        ("父方の祖父", "PGRFTH"),
        ("母方叔父", "MUNCLE"),
        ("弟", "BRO"),
        ("長女", "DAUC"),
        ("母方いとこ", "MCOUSN"),
        ("はとこ", "FAMMEMB"),
    ],
)
def test_family_history(written: str, role: str) -> None:
    text = f"家族歴：{written}が胃癌"
    made = statement(text, Kind.CONDITION, {Field.NAME: "胃癌", Field.RELATIVE: written}, assertion=Assertion.FAMILY)
    codings = (
        Coding(system=RECEIPT, code="1519014", display="胃癌"),
        Coding(system=ICD10, code="C16.9", display="胃癌"),
    )
    [history] = converted(text, Record(statement=made, display="胃癌", codings=codings, relative=written))
    assert history["resourceType"] == "FamilyMemberHistory"
    assert history["status"] == "partial"
    assert history["relationship"]["coding"][0]["code"] == role
    assert history["relationship"]["coding"][0]["system"] == "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
    assert history["relationship"]["text"] == written
    assert quoted(history["relationship"], text) == [written]
    assert [c["code"] for c in history["condition"][0]["code"]["coding"]] == ["C16.9"]
    assert quoted(history["condition"][0]["code"], text) == ["胃癌"]
    assert profile_of(history) == "JP_FamilyMemberHistory_eCS"


def test_a_disease_of_a_relative_that_no_table_knows_is_text_alone() -> None:
    text = "父：ハナミズキ症候群"
    quotes = {Field.NAME: "ハナミズキ症候群", Field.RELATIVE: "父"}
    made = statement(text, Kind.CONDITION, quotes, assertion=Assertion.FAMILY)
    [history] = converted(text, Record(statement=made, display="ハナミズキ症候群", relative="父"), facility=FACILITY)
    code = history["condition"][0]["code"]
    assert (code["text"], "coding" in code) == ("ハナミズキ症候群", False)
    assert history["status"] == "partial"

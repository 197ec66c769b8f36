"""アレルギー等: records to AllergyIntolerance, through the public face."""

import pytest
from fhir_cases import (
    DEPARTMENT_EXTENSION,
    FACILITY,
    INSTITUTION_EXTENSION,
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
from schemas.record import Record
from schemas.statement import AllergyCategory, Assertion, Field, Kind

FOOD = "http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyFoodAllergen_CS"
BUCKWHEAT = Coding(system=FOOD, code="J9FA21000000", display="そば", version="20250401")
YJ = Coding(system="http://capstandard.jp/iyaku.info/CodeSystem/YJ-code", code="6131001F1010", display="薬")


@pytest.mark.parametrize(
    ("category", "code"),
    [
        (AllergyCategory.MEDICATION, "D9M000000000"),
        (AllergyCategory.FOOD, "D9F000000000"),
        (AllergyCategory.ENVIRONMENT, "D9N000000000"),
        (AllergyCategory.OTHER, "D9N000000000"),
    ],
)
def test_allergy_category_and_dummy_code(category: AllergyCategory, code: str) -> None:
    text = "アレルギー：何か"
    made = statement(text, Kind.ALLERGY, {Field.NAME: "何か"}, category=category)
    [allergy] = converted(text, Record(statement=made, display="何か"))
    assert allergy.get("category") == (None if category is AllergyCategory.OTHER else [category.value])
    assert code_of(allergy["code"]) == code
    assert allergy["code"]["text"] == "何か"


@pytest.mark.parametrize(
    ("assertion", "clinical", "verification"),
    [
        (Assertion.PRESENT, "active", "confirmed"),
        (Assertion.SUSPECTED, "active", "unconfirmed"),
        (Assertion.ABSENT, "inactive", "refuted"),
        (Assertion.PAST, "resolved", "confirmed"),
    ],
)
def test_allergy_status(assertion: Assertion, clinical: str, verification: str) -> None:
    text = "アレルギーなし"
    made = statement(
        text, Kind.ALLERGY, {Field.NAME: "アレルギー"}, assertion=assertion, category=AllergyCategory.OTHER
    )
    [allergy] = converted(text, Record(statement=made, display="アレルギー"))
    assert code_of(allergy["clinicalStatus"]) == clinical
    assert code_of(allergy["verificationStatus"]) == verification


def test_allergy_reactions_and_profile() -> None:
    text = "ソバで発疹、呼吸苦"
    made = statement(
        text, Kind.ALLERGY, {Field.NAME: "ソバ", Field.REACTION: "発疹、呼吸苦"}, category=AllergyCategory.FOOD
    )
    record = Record(statement=made, display="そば", codings=(BUCKWHEAT,), reactions=("発疹", "呼吸苦"))
    [allergy] = converted(text, record, facility=FACILITY)
    assert allergy["reaction"][0]["manifestation"] == [{"text": "発疹"}, {"text": "呼吸苦"}]
    assert quoted(allergy["reaction"][0], text) == ["発疹、呼吸苦"]
    assert profile_of(allergy) == "JP_AllergyIntolerance_eCS"
    assert allergy["code"]["text"] == "ソバ"
    assert allergy["code"]["coding"] == [
        {"system": FOOD, "version": "20250401", "code": "J9FA21000000", "display": "そば"}
    ]
    assert extension_of(allergy, INSTITUTION_EXTENSION)["valueIdentifier"]["value"] == "1311234567"
    assert extension_of(allergy, DEPARTMENT_EXTENSION)["valueCodeableConcept"] == {"text": "内科"}
    assert "criticality" not in allergy


@pytest.mark.parametrize(
    ("codings", "codes"),
    [((YJ,), ["D9F000000000"]), ((YJ, BUCKWHEAT), ["J9FA21000000"]), ((BUCKWHEAT,), ["J9FA21000000"])],
)
def test_only_jfagy_codes_are_written(codings: tuple[Coding, ...], codes: list[str]) -> None:
    """The binding of code.coding is required for every Coding: a YJ code may not even stand beside a JFAGY one."""
    made = statement("そば", Kind.ALLERGY, {Field.NAME: "そば"}, category=AllergyCategory.FOOD)
    record = Record(statement=made, display="そば", codings=codings)
    resources, issues = built(known_note("そば"), [record], FACILITY)
    [allergy] = of_records(resources)
    assert [c["code"] for c in allergy["code"]["coding"]] == codes
    assert profile_of(allergy) == "JP_AllergyIntolerance_eCS"
    assert any("JFAGY" in issue.text and (issue.start, issue.end) == (0, 2) for issue in issues) == (YJ in codings)


def test_without_an_institution_number_the_core_profile_is_claimed() -> None:
    made = statement("そば", Kind.ALLERGY, {Field.NAME: "そば"}, category=AllergyCategory.FOOD)
    resources, issues = built(note_of("そば"), [Record(statement=made, display="そば")], None)
    [allergy] = of_records(resources)
    assert (profile_of(allergy), "identifier" in allergy) == ("JP_AllergyIntolerance", False)
    [gap] = [text for text in gaps(issues) if text.startswith("AllergyIntolerance")]
    assert (
        gap == "AllergyIntolerance.identifier: institution number of the facility is missing; JP Core profile claimed"
    )


def test_the_visit_and_the_physician_of_an_allergy() -> None:
    note = known_note("そば")
    made = statement("そば", Kind.ALLERGY, {Field.NAME: "そば"}, category=AllergyCategory.FOOD)
    [allergy] = converted("そば", Record(statement=made, display="そば"), facility=FACILITY, note=note)
    assert [r["resourceType"] for r in allergy["contained"]] == ["Encounter", "Practitioner"]
    assert allergy["encounter"]["reference"] == "#encounter"
    assert allergy["recorder"]["reference"] == "#practitioner"

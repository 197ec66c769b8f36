"""JP_Bundle_CLINS from the resources of the builder: what it holds, what stays out, and what several notes say together."""

import copy
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest
from clins_cases import (
    ALBUMIN,
    DIABETES,
    EGG,
    HBS,
    HYPERTENSION,
    INSURANCE,
    NOW,
    PATIENT,
    PNEUMONIA,
    REFERRAL_TEXT,
    allergy,
    built,
    disease,
    infection,
    note,
    of_type,
    referral_records,
    result,
)

from app.errors import InvalidInput
from app.fhir import Facility, check, dumps
from app.fhir.clins import CLINS_TYPES, ClinsType, clins_bundle, faults, merged
from schemas.coding import Coding
from schemas.issue import Issue, Severity
from schemas.statement import Assertion

Json = dict[str, Any]
IDENTIFIER = "1311234567^2026^0a1b"
TODAY = date(2026, 5, 2)
TEXT = "高血圧症(2020-03)。ALB 3.9 g/dL、HBs抗原 陰性。鶏卵アレルギー。左膝痛。"


@pytest.fixture(scope="module")
def resources() -> list[Json]:
    return built(note(REFERRAL_TEXT), *referral_records())


def made(type_: ClinsType, resources: list[Json]) -> tuple[Json | None, list[Issue]]:
    return clins_bundle(type_, resources[0], resources, identifier_value=IDENTIFIER, timestamp=NOW)


def whole(type_: ClinsType, resources: list[Json]) -> Json:
    bundle, _ = made(type_, resources)
    assert bundle is not None
    return bundle


def texts(resources: list[Json]) -> list[str]:
    return [resource["code"]["text"] for resource in resources]


# --- the Bundle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", CLINS_TYPES)
def test_the_bundle_is_of_the_profile_and_of_one_type(type_: ClinsType, resources: list[Json]) -> None:
    bundle = whole(type_, resources)
    assert bundle["type"] == "collection"
    assert bundle["meta"]["profile"] == ["http://jpfhir.jp/fhir/clins/StructureDefinition/JP_Bundle_CLINS|1.10.0"]
    assert bundle["meta"]["tag"] == [
        {"system": "http://jpfhir.jp/fhir/clins/CodeSystem/BundleResourceType_CS", "code": type_}
    ]
    assert bundle["identifier"] == {"system": "http://jpfhir.jp/fhir/clins/bundle-identifier", "value": IDENTIFIER}
    assert bundle["timestamp"] == bundle["meta"]["lastUpdated"] == "2026-05-02T00:30:00.000+00:00"
    assert bundle["entry"][0]["resource"]["resourceType"] == "Patient"
    assert {entry["resource"]["resourceType"] for entry in bundle["entry"][1:]} == {type_}
    assert [issue for issue in check(bundle) if issue.severity == Severity.ERROR] == []


@pytest.mark.parametrize("type_", CLINS_TYPES)
def test_nothing_leads_out_of_the_bundle(type_: ClinsType, resources: list[Json]) -> None:
    bundle = whole(type_, resources)
    patient = bundle["entry"][0]["fullUrl"]
    assert patient == f"urn:uuid:{resources[0]['id']}"
    text = dumps(bundle)
    references = [part.split('"')[0] for part in text.split('"reference":"')[1:]]
    assert references and set(references) <= {patient, "#encounter", "#practitioner", "#specimen"}
    assert "derivation-reference" not in text and "hyojun.local" not in text  # evidence and our own stay here
    assert any("derivation-reference" in dumps(resource) for resource in resources)  # and are not taken from the store
    for entry in bundle["entry"]:
        assert entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}"


def test_the_id_by_which_our_store_keeps_the_evidence_travels(resources: list[Json]) -> None:
    for entry in whole("Condition", resources)["entry"][1:]:
        (identifier,) = [i for i in entry["resource"]["identifier"] if "resourceInstance" in i["system"]]
        assert identifier["value"] == f"1311234567^2026^{entry['resource']['id']}"


def test_the_same_arguments_give_the_same_bytes_and_stay_as_they_are(resources: list[Json]) -> None:
    before = copy.deepcopy(resources)
    assert dumps(whole("Condition", resources)) == dumps(whole("Condition", resources))
    assert resources == before


def test_family_history_and_prescriptions_have_no_place(resources: list[Json]) -> None:
    assert of_type(resources, "FamilyMemberHistory") and of_type(resources, "MedicationRequest")
    for type_ in CLINS_TYPES:
        kinds = {entry["resource"]["resourceType"] for entry in whole(type_, resources)["entry"]}
        assert kinds == {"Patient", type_}


@pytest.mark.parametrize(
    "value",
    ["1311234567^2019^a", "1311234567^2040^a", "5311234567^2026^a", "1341234567^2026^a", "1311234567^2026^",
     "1311234567^2026^" + "a" * 37, "1311234567^2026^a_b", "131123456^2026^a", IDENTIFIER + "\n"],
)  # fmt: skip
def test_an_identifier_of_another_form_is_refused(value: str, resources: list[Json]) -> None:
    with pytest.raises(InvalidInput, match=r"Bundle\.identifier"):
        clins_bundle("Condition", resources[0], resources, identifier_value=value, timestamp=NOW)


def test_a_timestamp_needs_a_zone(resources: list[Json]) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 that is the fault
    with pytest.raises(InvalidInput, match="zone"):
        clins_bundle("Condition", resources[0], resources, identifier_value=IDENTIFIER, timestamp=naive)


# --- what stays out ---------------------------------------------------------------------------------------------------


def test_a_disease_without_onset_stays_out_and_is_named(resources: list[Json]) -> None:
    bundle, issues = made("Condition", resources)
    assert bundle is not None
    assert texts([e["resource"] for e in bundle["entry"][1:]]) == ["高血圧症", "肺炎"]
    (missing,) = [r for r in of_type(resources, "Condition") if "onsetDateTime" not in r]
    assert [issue.text for issue in issues] == [f"Condition/{missing['id']} is not sent: onsetDateTime is missing"]


def test_no_visit_and_no_physician_keep_results_out() -> None:
    resources = built(note(TEXT, encounter=None, physician=None), result(TEXT, "ALB", ALBUMIN, "3.9", "g/dL"))
    bundle, issues = made("Observation", resources)
    assert bundle is None
    (issue,) = issues
    for element in ("contained Encounter", "encounter", "contained Practitioner", "performer"):
        assert element in issue.text


def test_denied_allergies_stay_out(resources: list[Json]) -> None:
    bundle, issues = made("AllergyIntolerance", resources)
    assert bundle is not None and texts([e["resource"] for e in bundle["entry"][1:]]) == ["鶏卵"]
    (issue,) = issues
    assert "verificationStatus: refuted" in issue.text


@pytest.mark.parametrize(
    ("patient", "element"),
    [
        (PATIENT.model_copy(update={"insurance_id": None}), "insurance id"),
        (PATIENT.model_copy(update={"address": None}), "address.text"),
        (PATIENT.model_copy(update={"birth_date": None}), "birthDate"),
    ],
)
def test_an_incomplete_patient_is_sent_nowhere(patient: Any, element: str) -> None:
    resources = built(note(TEXT, patient=patient), allergy(TEXT, "鶏卵", EGG))
    bundle, issues = made("AllergyIntolerance", resources)
    assert bundle is None
    (issue,) = issues
    assert issue.severity == Severity.ERROR and element in issue.text and PATIENT.family not in issue.text


def test_a_resource_of_another_institution_stays_out() -> None:
    resources = built(note(TEXT), allergy(TEXT, "鶏卵", EGG), facility=Facility(number="1319876543"))
    bundle, issues = made("AllergyIntolerance", resources)
    assert bundle is None and "not the institution" in issues[0].text


def _without(*path: str) -> Callable[[Json], None]:
    def edit(resource: Json) -> None:
        for key in path[:-1]:
            resource = resource[key]
        del resource[path[-1]]

    return edit


def _lts(resource: Json) -> None:
    resource["meta"]["tag"] = [
        {"system": "http://jpfhir.jp/fhir/clins/CodeSystem/JP_ehrshrs_indication", "code": "LTS"}
    ]


@pytest.mark.parametrize(
    ("type_", "edit", "element"),
    [
        ("Condition", _without("extension"), "extension InstitutionNumber is missing; extension Department is missing"),
        ("Condition", _without("contained"), "contained Encounter"),
        ("Condition", _without("encounter"), "encounter"),
        ("Condition", _without("clinicalStatus"), "clinicalStatus"),
        ("Condition", _without("identifier"), "resourceInstance-identifier"),
        ("Condition", lambda r: r["meta"].update(profile=["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Condition"]),
         "meta.profile"),
        ("Condition", lambda r: r["contained"][0]["meta"].update(
            profile=["http://jpfhir.jp/fhir/eCS/StructureDefinition/JP_Encounter_eCS|1.10.0"]), "contained Encounter"),
        ("Condition", lambda r: r.update(asserter={"reference": "Practitioner/x"}), "asserter: leads out"),
        ("Condition", lambda r: r.update(recorder={"reference": "#nobody"}), "recorder: leads out"),
        ("Condition", lambda r: r["verificationStatus"]["coding"][0].update(code="entered-in-error"), "entered-in-error"),
        ("Observation", _without("performer"), "performer"),
        ("Observation", lambda r: r.update(hasMember=[{"reference": "#x"}]), "hasMember"),
        ("Observation", lambda r: r["code"]["coding"].pop(0), "facility's own code"),
        ("Observation", lambda r: r.update(status="amended"), "status"),
        ("Observation", _lts, "LTS"),
    ],
)  # fmt: skip
def test_what_the_bundle_demands_is_looked_for(type_: ClinsType, edit: Callable[[Json], None], element: str) -> None:
    resources = built(
        note(TEXT),
        disease(TEXT, "高血圧症", HYPERTENSION, onset="2020-03"),
        result(TEXT, "ALB", ALBUMIN, "3.9", "g/dL"),
    )
    assert made(type_, resources)[1] == []
    (chosen,) = of_type(resources, type_)
    edit(chosen)
    bundle, issues = made(type_, resources)
    assert bundle is None
    (issue,) = issues
    assert issue.text.startswith(f"{type_}/{chosen['id']} is not sent: ") and element in issue.text


def test_an_infection_may_be_flagged_for_long_storage() -> None:
    resources = built(note(TEXT), infection(TEXT, "HBs抗原", HBS))
    _lts(of_type(resources, "Observation")[0])
    bundle, issues = made("Observation", resources)
    assert bundle is not None and issues == []


# --- several notes ----------------------------------------------------------------------------------------------------


def day(number: int, text: str, *records: Any, **change: Any) -> list[Json]:
    """The resources of a note of day `number` of April 2026."""
    return built(note(text, note_id=f"n-{number}", day=date(2026, 4, number), **change), *records)


def together(*notes: list[Json], type_: ClinsType = "Condition", today: date = TODAY) -> tuple[list[Json], list[Issue]]:
    return merged(type_, notes, today=today)


def test_a_disease_of_many_notes_is_sent_once_and_the_newest_speaks() -> None:
    text = "2型糖尿病 2015"
    notes = [day(n, text, disease(text, "2型糖尿病", DIABETES, onset="2015")) for n in (1, 2, 3)]
    kept, issues = together(*notes)
    assert kept == of_type(notes[2], "Condition") and issues == []


def test_an_abbreviation_and_its_full_name_are_one_disease_by_code() -> None:
    first, second = "DM 2015", "2型糖尿病 2015"
    notes = [
        day(1, first, disease(first, "DM", DIABETES, onset="2015")),
        day(2, second, disease(second, "2型糖尿病", DIABETES, onset="2015")),
    ]
    assert texts(together(*notes)[0]) == ["2型糖尿病"]


def test_one_icd10_code_does_not_make_two_diseases_one() -> None:
    text = "気管支炎 2020、気管支肺炎 2021"
    icd = Coding(system="http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full", code="J40", display="x")
    made = day(1, text, disease(text, "気管支炎", icd, onset="2020"), disease(text, "気管支肺炎", icd, onset="2021"))
    assert texts(together(made)[0]) == ["気管支炎", "気管支肺炎"]


def test_a_modifier_makes_another_disease() -> None:
    text = "肺炎 2020、左肺炎 2021"
    left = disease(text, "左肺炎", PNEUMONIA, onset="2021", modifier="27000358")
    made = day(1, text, disease(text, "肺炎", PNEUMONIA, onset="2020"), left)
    assert len(together(made)[0]) == 2


def test_a_modifier_that_no_table_knows_makes_another_disease_too() -> None:
    text = "肺炎 2020、急性肺炎 2021"
    acute = disease(text, "急性肺炎", PNEUMONIA, onset="2021")
    assert len(together(day(1, text, disease(text, "肺炎", PNEUMONIA, onset="2020"), acute))[0]) == 2


def test_a_coded_modifier_may_be_written_in_two_notes() -> None:
    text = "左肺炎 2021"
    notes = [day(n, text, disease(text, "左肺炎", PNEUMONIA, onset="2021", modifier="27000358")) for n in (1, 2)]
    assert together(*notes)[0] == of_type(notes[1], "Condition")


def test_uncoded_diseases_are_one_by_their_text() -> None:
    text = "左膝痛 2020"
    notes = [day(n, text, disease(text, "左膝痛", onset="2020")) for n in (1, 2)]
    assert len(together(*notes)[0]) == 1


def test_an_earlier_complete_one_stands_whole_for_a_newer_without_onset() -> None:
    first, second = "2型糖尿病 2015", "2型糖尿病"
    notes = [
        day(1, first, disease(first, "2型糖尿病", DIABETES, onset="2015")),
        day(2, second, disease(second, "2型糖尿病", DIABETES)),
    ]
    kept, issues = together(*notes)
    assert kept == of_type(notes[0], "Condition") and issues == []
    assert "onsetDateTime" not in of_type(notes[1], "Condition")[0]  # nothing was copied


def test_an_earlier_one_of_another_status_does_not_stand_for_the_newer() -> None:
    first, second = "肺炎の疑い 2025", "肺炎"
    notes = [
        day(1, first, disease(first, "肺炎", PNEUMONIA, onset="2025", assertion=Assertion.SUSPECTED)),
        day(2, second, disease(second, "肺炎", PNEUMONIA)),
    ]
    assert together(*notes)[0] == of_type(notes[1], "Condition")


def test_an_earlier_episode_does_not_stand_for_a_new_one() -> None:
    first, second, third = "肺炎 2022", "肺炎は治癒 2022", "肺炎"
    notes = [
        day(1, first, disease(first, "肺炎", PNEUMONIA, onset="2022")),
        day(2, second, disease(second, "肺炎", PNEUMONIA, onset="2022", assertion=Assertion.PAST)),
        day(3, third, disease(third, "肺炎", PNEUMONIA)),
    ]
    assert together(*notes)[0] == of_type(notes[2], "Condition")


def test_what_was_entered_in_error_says_nothing() -> None:
    text = "肺炎 2025"
    notes = [day(n, text, disease(text, "肺炎", PNEUMONIA, onset="2025")) for n in (1, 2)]
    wrong = of_type(notes[1], "Condition")[0]
    wrong["verificationStatus"]["coding"][0]["code"] = "entered-in-error"
    del wrong["clinicalStatus"]
    kept, issues = together(*notes)
    assert kept == of_type(notes[0], "Condition")
    assert [i.text for i in issues] == [
        f"Condition/{wrong['id']} is not sent: verificationStatus: entered-in-error is not sent"
    ]


def test_a_denial_leaves_what_the_same_note_calls_past() -> None:
    text = "Pneumoniaなし。肺炎 2022"
    records = [
        disease(text, "Pneumonia", PNEUMONIA, assertion=Assertion.ABSENT),
        disease(text, "肺炎", PNEUMONIA, onset="2022", assertion=Assertion.PAST),
    ]
    kept, issues = together(day(1, text, *records))
    assert [r["onsetDateTime"] for r in kept] == ["2022"] and len(issues) == 1


def test_a_later_denial_takes_the_earlier_one_away_and_says_so() -> None:
    first, second = "肺炎 2025", "肺炎は否定"
    notes = [
        day(1, first, disease(first, "肺炎", PNEUMONIA, onset="2025")),
        day(2, second, disease(second, "肺炎", PNEUMONIA, assertion=Assertion.ABSENT)),
    ]
    kept, issues = together(*notes)
    assert kept == []
    asserted, denied = of_type(notes[0], "Condition")[0]["id"], of_type(notes[1], "Condition")[0]["id"]
    assert [(i.severity, i.text) for i in issues] == [
        ("information", f"Condition/{denied} is not sent: verificationStatus: refuted is not sent"),
        ("warning", f"Condition/{asserted} is not sent: denied by Condition/{denied}, which is newer"),
    ]


def test_an_earlier_denial_does_not_take_a_later_one_away() -> None:
    first, second = "肺炎は否定", "肺炎 2026-04"
    notes = [
        day(1, first, disease(first, "肺炎", PNEUMONIA, assertion=Assertion.ABSENT)),
        day(2, second, disease(second, "肺炎", PNEUMONIA, onset="2026-04")),
    ]
    assert together(*notes)[0] == of_type(notes[1], "Condition")


def test_a_note_that_says_both_sends_neither_of_the_present() -> None:
    text = "肺炎 2025。Pneumoniaなし"
    denied = disease(text, "Pneumonia", PNEUMONIA, assertion=Assertion.ABSENT)
    kept, issues = together(day(1, text, disease(text, "肺炎", PNEUMONIA, onset="2025"), denied))
    assert kept == [] and "of the same note" in issues[1].text


def test_the_best_of_one_notes_statements_is_taken() -> None:
    text = "肺炎の疑い。肺炎 2025"
    suspected = disease(text, "肺炎の疑い", PNEUMONIA, assertion=Assertion.SUSPECTED)
    kept, issues = together(day(1, text, suspected, disease(text, "肺炎", PNEUMONIA, onset="2025")))
    assert [r["onsetDateTime"] for r in kept] == ["2025"] and issues == []


def test_allergies_are_merged_and_denied_likewise() -> None:
    first, second = "鶏卵アレルギー", "卵アレルギーは否定"
    notes = [
        day(1, first, allergy(first, "鶏卵", EGG)),
        day(2, second, allergy(second, "卵アレルギー", EGG, Assertion.ABSENT)),
    ]
    assert together(notes[0], notes[0], type_="AllergyIntolerance")[0] == of_type(notes[0], "AllergyIntolerance")
    kept, issues = together(*notes, type_="AllergyIntolerance")
    assert kept == [] and len(issues) == 2


def test_a_note_that_states_and_denies_an_allergy_does_not_hide_it() -> None:
    text = "鶏卵で蕁麻疹。卵なし"
    made = day(1, text, allergy(text, "鶏卵", EGG), allergy(text, "卵なし", EGG, Assertion.ABSENT))
    stated, denied = of_type(made, "AllergyIntolerance")
    kept, issues = together(made, type_="AllergyIntolerance")
    assert kept == [stated]
    assert [(i.severity, i.text.partition(" ")[0]) for i in issues] == [("warning", f"AllergyIntolerance/{denied['id']}")]
    assert "the same note states the allergy" in issues[0].text


def test_an_allergy_that_is_left_out_as_past_is_a_warning() -> None:
    text = "鶏卵アレルギー"
    kept, issues = together(day(1, text, allergy(text, "鶏卵", EGG, Assertion.PAST)), type_="AllergyIntolerance")
    assert kept == [] and [i.severity for i in issues] == ["warning"]


def test_a_disease_that_lasted_and_is_then_called_past_is_not_dropped_in_silence() -> None:
    text = "2型糖尿病 2015"
    lasting = day(1, text, disease(text, "2型糖尿病", DIABETES, onset="2015"))
    past = day(2, text, disease(text, "2型糖尿病", DIABETES, onset="2015", assertion=Assertion.PAST))
    kept, issues = together(lasting, past)
    assert kept == [] and [i.severity for i in issues] == ["warning"] and "nothing tells" in issues[0].text
    assert [i.severity for i in together(past)[1]] == ["information"]


@pytest.mark.parametrize(
    ("ended", "sent"),
    [
        ("2021-05-02", True),
        ("2021-05-01", False),
        ("2021-05", True),
        ("2021-04", False),
        ("2021", True),
        ("2020", False),
    ],
)
def test_what_ended_is_sent_for_five_years(ended: str, sent: bool) -> None:
    text = "肺炎 2010"
    made = day(1, text, disease(text, "肺炎", PNEUMONIA, onset="2010", assertion=Assertion.PAST))
    of_type(made, "Condition")[0]["abatementDateTime"] = ended
    kept, issues = together(made)
    assert bool(kept) is sent and bool(issues) is not sent


@pytest.mark.parametrize(("onset", "sent"), [("2022", True), ("2010", False)])
def test_where_no_end_is_known_the_begin_may_tell(onset: str, sent: bool) -> None:
    text = f"肺炎 {onset}"
    kept, issues = together(day(1, text, disease(text, "肺炎", PNEUMONIA, onset=onset, assertion=Assertion.PAST)))
    assert bool(kept) is sent
    assert sent or "nothing tells" in issues[0].text


def test_what_is_merged_can_be_sent() -> None:
    text = "2型糖尿病 2015"
    notes = [day(n, text, disease(text, "2型糖尿病", DIABETES, onset="2015")) for n in (1, 2)]
    kept, _ = together(*notes)
    assert [faults(resource) for resource in kept] == [[]]
    bundle, issues = clins_bundle("Condition", notes[1][0], kept, identifier_value=IDENTIFIER, timestamp=NOW)
    assert bundle is not None and issues == [] and len(bundle["entry"]) == 2
    assert INSURANCE in dumps(bundle["entry"][0])

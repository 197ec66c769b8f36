"""診療情報提供書 and 退院時サマリー from a note: their sections, and what happens when something is missing."""

import copy
from typing import Any
from xml.etree import ElementTree

import pytest
from clins_cases import (
    FACILITY,
    NOW,
    PATIENT,
    PHYSICIAN,
    RECIPIENT,
    REFERRAL_TEXT,
    STAY,
    allergy,
    built,
    disease,
    note,
    referral_records,
)

from app.fhir import Facility, ProvenanceSource, build_resources, check, dumps
from app.fhir.documents import document
from schemas.issue import Issue, Severity
from schemas.note import ChartNote, DocumentType
from schemas.statement import Assertion

Json = dict[str, Any]
XHTML = "{http://www.w3.org/1999/xhtml}"


def referral(text: str = REFERRAL_TEXT, **change: Any) -> ChartNote:
    return note(text, document_type=DocumentType.REFERRAL, **{"recipient": RECIPIENT} | change)


def discharge(text: str = REFERRAL_TEXT, **change: Any) -> ChartNote:
    return note(text, document_type=DocumentType.DISCHARGE, **{"encounter": STAY} | change)


def made(of: ChartNote, *records: Any, facility: Facility | None = FACILITY) -> tuple[Json | None, list[Issue]]:
    return document(of, built(of, *(records or referral_records()), facility=facility), timestamp=NOW)


def whole(of: ChartNote, *records: Any) -> Json:
    bundle, _ = made(of, *records)
    assert bundle is not None
    return bundle


def composition(bundle: Json) -> Json:
    first: Json = bundle["entry"][0]["resource"]
    assert first["resourceType"] == "Composition"
    return first


def sections(bundle: Json) -> dict[str, Json]:
    """By code, those within 300 too."""
    top = composition(bundle)["section"]
    inner = [part for section in top for part in section.get("section", [])]
    return {section["code"]["coding"][0]["code"]: section for section in (*top, *inner)}


def entries(bundle: Json, code: str) -> list[str]:
    """What the section's entries are: resource type and text."""
    by_url = {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]}
    found = [by_url[entry["reference"]] for entry in sections(bundle)[code].get("entry", [])]
    return [
        f"{r['resourceType']} {r.get('code', r.get('medicationCodeableConcept', {})).get('text', '')}".strip()
        for r in found
    ]


def lines(section: Json) -> list[str]:
    """The narrative's lines; it must be well-formed XHTML."""
    assert section["text"]["status"] == "additional"
    root = ElementTree.fromstring(section["text"]["div"])
    assert root.tag == f"{XHTML}div"
    return [item.text or "" for item in root.iter(f"{XHTML}li")] or [root.text or ""]


# --- 診療情報提供書 ----------------------------------------------------------------------------------------------------


def test_a_referral_has_its_head() -> None:
    bundle = whole(referral())
    assert bundle["type"] == "document"
    assert bundle["meta"]["profile"] == ["http://jpfhir.jp/fhir/clins/StructureDefinition/JP_Bundle_eReferral|1.10.0"]
    number, year, local = bundle["identifier"]["value"].split("^")
    assert (number, year) == ("1311234567", "2026") and len(local) == 36
    head = composition(bundle)
    assert head["status"] == "final" and head["title"] == "診療情報提供書"
    assert head["type"]["coding"][0]["code"] == "57133-1"
    assert head["category"][0]["coding"][0]["code"] == "OUTPATIENT"
    assert head["event"] == [{"code": [{"text": "診療情報提供書発行"}], "period": {"start": "2026-05-01"}}]
    assert head["extension"][0]["valueString"] == "1.0"
    assert head["identifier"]["value"].startswith("1311234567^2026^") and len(head["identifier"]["value"]) == 16 + 32
    assert [who["type"] for who in head["author"]] == ["Practitioner", "Organization"]
    assert head["custodian"] == head["author"][1]
    assert [issue for issue in check(bundle) if issue.severity == Severity.ERROR] == []


def test_a_referral_has_its_sections() -> None:
    bundle = whole(referral())
    assert list(sections(bundle)) == [
        "920", "910", "300", "950", "340", "360", "370", "510", "550", "520", "430", "620", "330"
    ]  # fmt: skip
    assert entries(bundle, "920") == ["Organization", "Practitioner"]
    assert lines(sections(bundle)["920"]) == ["見本病院", "佐藤 一郎"]
    assert lines(sections(bundle)["910"]) == ["港診療所", "鈴木 次郎"]
    assert entries(bundle, "950") == ["Encounter"] and lines(sections(bundle)["950"]) == ["精査のお願い"]
    assert entries(bundle, "340") == ["Condition 高血圧症", "Condition 左膝痛"]
    assert entries(bundle, "370") == ["Condition 肺炎"]
    assert entries(bundle, "510") == ["AllergyIntolerance 鶏卵"]
    assert lines(sections(bundle)["510"]) == ["鶏卵", "そば: 否定"]
    assert entries(bundle, "550") == ["FamilyMemberHistory"] and lines(sections(bundle)["550"]) == ["母: 糖尿病"]
    assert entries(bundle, "520") == ["Observation HBs抗原"]
    assert entries(bundle, "620") == ["Observation ALB"]
    assert entries(bundle, "430") == ["MedicationRequest アムロジピン錠5mg"]
    assert entries(bundle, "330") == ["DocumentReference"]
    for section in sections(bundle).values():
        assert section["code"]["coding"][0]["display"] == f"{section['title']}セクション"
        assert ("emptyReason" in section) <= ("entry" not in section)  # cmp-2
        assert "text" in section or "section" in section  # cmp-1


def test_every_reference_of_a_document_leads_to_a_member() -> None:
    bundle = whole(referral())
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(urls) == len(bundle["entry"])
    references = {part.split('"')[0] for part in dumps(bundle).split('"reference":"')[1:]}
    assert {r for r in references if not r.startswith("#")} <= urls
    assert "hyojun.local/fhir/StructureDefinition" not in dumps(bundle)
    assert "Provenance" not in {entry["resource"]["resourceType"] for entry in bundle["entry"]}


def test_evidence_travels_with_the_text_that_it_points_into() -> None:
    bundle = whole(referral())
    (text,) = [e["fullUrl"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DocumentReference"]
    assert dumps(bundle).count(f'"valueReference":{{"reference":"{text}"}}') > 10


def test_what_is_not_read_is_unavailable_and_never_said_to_be_nothing() -> None:
    bundle = whole(referral())
    section = sections(bundle)["360"]
    assert section["emptyReason"]["coding"][0]["code"] == "unavailable" and "entry" not in section
    assert "nilknown" not in dumps(bundle)


def test_a_general_denial_of_allergies_says_that_none_is_known() -> None:
    text = "高血圧症。アレルギーなし"
    bundle = whole(referral(text), disease(text, "高血圧症"), allergy(text, "アレルギー", assertion=Assertion.ABSENT))
    assert sections(bundle)["510"]["emptyReason"]["coding"][0]["code"] == "nilknown"


def test_the_denial_of_one_allergen_says_no_more_than_that() -> None:
    text = "高血圧症。そばなし"
    bundle = whole(referral(text), disease(text, "高血圧症"), allergy(text, "そば", assertion=Assertion.ABSENT))
    assert "emptyReason" not in sections(bundle)["510"] and lines(sections(bundle)["510"]) == ["そば: 否定"]
    assert "AllergyIntolerance" not in {entry["resource"]["resourceType"] for entry in bundle["entry"]}


def test_an_allergy_that_may_not_leave_keeps_the_document_from_saying_that_none_is_known() -> None:
    text = "高血圧症。アレルギーなし。鶏卵アレルギー"
    of = referral(text)
    resources = built(of, disease(text, "高血圧症"), allergy(text, "アレルギー", assertion=Assertion.ABSENT), allergy(text, "鶏卵"))
    *others, egg = [r for r in resources if r["resourceType"] != "Provenance"]
    bundle, _ = document(of, others, timestamp=NOW, withheld=[egg])
    assert bundle is not None
    section = sections(bundle)["510"]
    assert section["emptyReason"]["coding"][0]["code"] == "unavailable" and egg["id"] not in dumps(bundle)
    assert lines(section) == ["この欄に構造化して載せていない記載が原文に1件ある。「臨床経過」の文書を参照。", "アレルギー: 否定"]


def test_a_list_that_is_not_whole_says_so() -> None:
    of = discharge()
    resources = built(of, *referral_records())
    (pain,) = [r for r in resources if r.get("code", {}).get("text") == "左膝痛"]
    bundle, _ = document(of, [r for r in resources if r is not pain], timestamp=NOW, withheld=[pain])
    assert bundle is not None
    assert lines(sections(bundle)["344"])[1:] == ["この欄に構造化して載せていない記載が原文に1件ある。「入院中経過」の文書を参照。"]


def test_a_physician_who_refers_to_himself_stands_once() -> None:
    same = RECIPIENT.model_copy(update={"number": "1311234567", "physician": PHYSICIAN})
    bundle = whole(referral(recipient=same))
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert kinds.count("Practitioner") == 1 and kinds.count("Organization") == 2
    assert entries(bundle, "910") == ["Organization", "Practitioner"] and check(bundle) == []


def test_a_document_is_found_whatever_system_sent_the_note() -> None:
    of = referral()
    run = ProvenanceSource(run_id="r", software_version="0", model="m", prompt="p", grammar="g", terminology="t")
    resources, _ = build_resources(of, [], facility=FACILITY, run=run, recorded=NOW, source="ward")
    bundle, _ = document(of, resources, timestamp=NOW)
    assert bundle is not None and entries(bundle, "910") == ["Organization", "Practitioner"]


def test_markup_of_the_note_is_text_in_the_narrative() -> None:
    text = "<b>高血圧症</b>&amp;"
    bundle = whole(referral(text), disease(text, "<b>高血圧症</b>&amp;"))
    assert lines(sections(bundle)["340"]) == ["<b>高血圧症</b>&amp;"]


def test_a_referral_of_nothing_but_text_still_is_one() -> None:
    bundle, issues = document(referral(), built(referral()), timestamp=NOW)
    assert bundle is not None and issues == []
    assert sections(bundle)["340"]["emptyReason"]["coding"][0]["code"] == "unavailable"


def test_why_a_patient_was_admitted_is_not_why_he_is_referred() -> None:
    bundle = whole(referral(encounter=STAY))
    assert sections(bundle)["950"]["emptyReason"]["coding"][0]["code"] == "unavailable"
    assert composition(bundle)["category"][0]["coding"][0]["code"] == "INPATIENT"


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"physician": None}, ["Composition.author"]),
        ({"encounter": None}, ["Encounter"]),
        ({"recipient": None}, ["section 910: the recipient"]),
        ({"recipient": RECIPIENT.model_copy(update={"number": None})}, ["section 910: the institution number"]),
        ({"patient": PATIENT.model_copy(update={"address": None, "insurance_id": None})},
         ["Patient.identifier (insurance id)", "Patient.address.text"]),
        ({"physician": None, "recipient": None}, ["Composition.author", "section 910"]),
    ],
)  # fmt: skip
def test_what_the_sender_does_not_state_is_named_and_not_invented(change: Json, missing: list[str]) -> None:
    bundle, issues = made(referral(**change))
    assert bundle is None
    errors = [issue.text for issue in issues if issue.severity == Severity.ERROR]
    assert len(errors) == len(missing)
    assert all(text.startswith(f"missing: {what}") for text, what in zip(errors, missing, strict=True))


def test_a_facility_without_name_or_number_makes_no_document() -> None:
    assert "FACILITY_NAME" in made(referral(), facility=Facility(number="1311234567"))[1][0].text
    assert "INSTITUTION_NUMBER" in made(referral(), facility=Facility(name="見本病院"))[1][0].text


def test_a_referral_to_oneself_has_no_recipient() -> None:
    here = RECIPIENT.model_copy(update={"name": "見本病院", "number": "1311234567", "department": "内科"})
    bundle, issues = made(referral(recipient=here))
    assert bundle is None and "other than the sending department" in issues[0].text


# --- 退院時サマリー ----------------------------------------------------------------------------------------------------


def test_a_discharge_summary_has_its_head_and_its_sections() -> None:
    bundle = whole(discharge())
    head = composition(bundle)
    assert head["title"] == "退院時サマリー" and head["type"]["coding"][0]["code"] == "18842-5"
    assert head["category"][0]["coding"][0]["code"] == "DISCHARGE"
    assert head["event"] == [{"period": {"start": "2026-04-20", "end": "2026-05-01"}}]
    assert list(sections(bundle)) == [
        "300", "322", "342", "352", "312", "360", "370", "510", "550", "333", "324", "344", "444", "424", "623"
    ]  # fmt: skip
    assert entries(bundle, "322") == entries(bundle, "324") == entries(bundle, "312") == ["Encounter"]
    assert entries(bundle, "344") == ["Condition 高血圧症", "Condition 左膝痛"]
    assert entries(bundle, "333") == ["DocumentReference"]
    assert entries(bundle, "444") == ["MedicationRequest アムロジピン錠5mg"]
    assert entries(bundle, "623") == ["Observation HBs抗原", "Observation ALB"]
    for code in ("342", "352", "360", "424"):
        assert sections(bundle)[code]["emptyReason"]["coding"][0]["code"] == "unavailable"
    assert sum(entry["resource"]["resourceType"] == "Encounter" for entry in bundle["entry"]) == 1
    assert [issue for issue in check(bundle) if issue.severity == Severity.ERROR] == []


def test_a_stay_without_its_end_makes_no_summary() -> None:
    bundle, issues = made(discharge(encounter=STAY.model_copy(update={"end": None})))
    assert bundle is None and [i.text for i in issues] == ["missing: Composition.event.period.end: the stay's end"]


def test_a_summary_needs_a_disease_at_discharge() -> None:
    text = "肺炎(2010)"
    bundle, issues = made(discharge(text), disease(text, "肺炎", assertion=Assertion.PAST))
    assert bundle is None and "section 344" in issues[0].text


def test_suspected_diseases_are_shown_as_such() -> None:
    text = "肺炎疑い"
    bundle = whole(discharge(text), disease(text, "肺炎", assertion=Assertion.SUSPECTED))
    assert lines(sections(bundle)["344"]) == ["肺炎の疑い"]


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [t for t in DocumentType if t not in (DocumentType.REFERRAL, DocumentType.DISCHARGE)])
def test_no_other_note_becomes_a_document(of: DocumentType) -> None:
    bundle, issues = made(note(REFERRAL_TEXT, document_type=of, recipient=RECIPIENT))
    assert bundle is None and issues[0].code == "not-supported" and of.value in issues[0].text


@pytest.mark.parametrize("of", [referral(), discharge()])
def test_the_same_note_gives_the_same_document(of: ChartNote) -> None:
    resources = built(of, *referral_records())
    before = copy.deepcopy(resources)
    first, _ = document(of, resources, timestamp=NOW)
    second, _ = document(of, resources, timestamp=NOW)
    assert first is not None and second is not None and dumps(first) == dumps(second) and resources == before
    third, _ = document(of, resources, timestamp=NOW, version=3)
    assert third is not None and composition(third)["extension"][0]["valueString"] == "3.0"
    assert third["identifier"] == first["identifier"] and third["id"] == first["id"]


def test_what_does_not_claim_its_profile_stays_out_and_is_named() -> None:
    of = referral()
    resources = built(of, *referral_records())
    (order,) = [r for r in resources if r["resourceType"] == "MedicationRequest"]
    order["meta"]["profile"] = ["http://jpfhir.jp/fhir/core/StructureDefinition/JP_MedicationRequest"]
    bundle, issues = document(of, resources, timestamp=NOW)
    # The section says that it is not all: an absent list of drugs would read as no drugs.
    assert bundle is not None and "entry" not in sections(bundle)["430"]
    assert lines(sections(bundle)["430"]) == ["この欄に構造化して載せていない記載が原文に1件ある。「臨床経過」の文書を参照。"]
    assert [i.text for i in issues] == [
        f"MedicationRequest/{order['id']} is not in the document: meta.profile: the eCS profile is not claimed"
    ]


def test_a_denied_disease_is_in_no_section() -> None:
    text = "高血圧症。肺炎なし"
    of = referral(text)
    records = [disease(text, "高血圧症"), disease(text, "肺炎", assertion=Assertion.ABSENT)]
    bundle, issues = document(of, built(of, *records), timestamp=NOW)
    assert bundle is not None and entries(bundle, "340") == ["Condition 高血圧症"] and "370" not in sections(bundle)
    assert [issue.severity for issue in issues] == ["information"] and "refuted" in issues[0].text


def test_a_resource_that_leads_out_of_the_document_stays_out() -> None:
    of = referral()
    resources = built(of, *referral_records())
    condition = next(r for r in resources if r["resourceType"] == "Condition")
    condition["asserter"] = {"reference": "Practitioner/somebody"}
    bundle, issues = document(of, resources, timestamp=NOW)
    assert bundle is not None and entries(bundle, "340") == ["Condition 左膝痛"]
    assert "asserter: leads out" in issues[0].text

"""A note as an HL7 CDA R2 document: the header that the standard demands, and the note's text as one section.

Source: HL7 CDA Release 2 (POCD_HD000040); codes of the kinds of document and serviceEvent as in NHO SSMIX2_support_documents
`medical_document.md`.
"""

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from app.ssmix2.builder import Facility
from schemas.note import ChartNote, DocumentType, Practitioner, Sex

LOINC = "2.16.840.1.113883.6.1"


@dataclass(frozen=True)
class Form:
    """A kind of document: LOINC code, its name, and the code of the CDA document where that is another one (JMIX)."""

    code: str
    name: str
    jmix: str | None = None


_PROGRESS = Form("11506-3", "経過記録")
_OUTPATIENT, _INPATIENT = Form("34108-1", "外来診療録"), Form("34112-3", "入院診療録")
FORMS = {
    DocumentType.PROGRESS: _PROGRESS,
    DocumentType.ADMISSION: _INPATIENT,
    DocumentType.PREOP: _INPATIENT,
    DocumentType.REFERRAL: Form("57133-1", "紹介状", "MD0020730"),
    DocumentType.REPLY: _PROGRESS,
    DocumentType.DISCHARGE: Form("18842-5", "退院時サマリー"),
    DocumentType.NURSING: _INPATIENT,
    DocumentType.EMERGENCY: _OUTPATIENT,
    DocumentType.HOMECARE: _OUTPATIENT,
    DocumentType.CHECKUP: _OUTPATIENT,
}
"""Kind of document of each note; what has no kind of its own is 経過記録."""

_GENDERS = {Sex.MALE: "M", Sex.FEMALE: "F", Sex.OTHER: "UN"}
# XML 1.0, production Char: what no escape can bring into a document.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINES = re.compile("\r\n|\r|\n")

_Node = ElementTree.Element


def document(note: ChartNote, facility: Facility, key: str) -> bytes:
    """The document, UTF-8, ended by LF; the same note gives the same bytes. `key`: what names the note among all.

    Every line of the text stands there as it is, between line breaks (`br`); only characters that XML forbids become
    U+FFFD. What the sender does not state is a null flavor, never invented.
    """
    form = FORMS[note.document_type]
    day = f"{note.date:%Y%m%d}"
    root = _Node("ClinicalDocument", {"xmlns": "urn:hl7-org:v3"})
    _add(root, "typeId", root="2.16.840.1.113883.1.3", extension="POCD_HD000040")
    # 2.25: an OID made of a UUID (ITU-T X.667). A corrected note is another document.
    content = hashlib.sha256(note.model_dump_json().encode()).hexdigest()
    _add(root, "id", root=f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'{key}/{content}').int}")
    if form.jmix:
        code = _add(
            root,
            "code",
            code=form.jmix,
            codeSystem="1.2.392.200119.5.3.1",
            codeSystemName="JMIX",
            displayName="診療情報提供書",
        )
        _loinc(code, "translation", form)
    else:
        _loinc(root, "code", form)
    _add(root, "title", form.name)
    _add(root, "effectiveTime", value=day)
    _add(root, "confidentialityCode", code="N", codeSystem="2.16.840.1.113883.5.25")
    _add(root, "languageCode", code="ja-JP")
    _patient(root, note, facility)
    _author(root, note, facility, day)
    keeper = _path(root, "custodian", "assignedCustodian", "representedCustodianOrganization")
    _organization(keeper, facility)
    visit = note.encounter
    stay = note.document_type is DocumentType.DISCHARGE
    event = _add(_add(root, "documentationOf"), "serviceEvent", classCode="ACCM" if stay else "ENC")
    start, end = (visit.start if visit else None, visit.end if visit else None) if stay else (note.date, note.date)
    time = _add(event, "effectiveTime")
    for name, moment in (("low", start), ("high", end)):
        _add(time, name, **({"value": f"{moment:%Y%m%d}"} if moment else {"nullFlavor": "UNK"}))
    section = _path(root, "component", "structuredBody", "component", "section")
    _loinc(section, "code", form)
    _add(section, "title", form.name)
    text = _add(section, "text")
    ElementTree.indent(root)
    _text(text, _LINES.split(note.text))
    data: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return data + b"\n"


def _patient(root: _Node, note: ChartNote, facility: Facility) -> None:
    person = note.patient
    role = _path(root, "recordTarget", "patientRole")
    number = facility.institution_number
    # JP Core: patient numbers of an institution; without its number nobody can say whose number it is.
    system = {"root": f"1.2.392.100495.20.3.51.1{number}"} if number else {"nullFlavor": "UNK"}
    _add(role, "id", extension=person.id, **system)
    if person.address:
        _add(_add(role, "addr"), "streetAddressLine", person.address)
    patient = _add(role, "patient")
    _name(patient, person.family, person.given)
    gender = _GENDERS.get(person.sex)
    system = {"code": gender, "codeSystem": "2.16.840.1.113883.5.1"} if gender else {"nullFlavor": "UNK"}
    _add(patient, "administrativeGenderCode", **system)
    born = person.birth_date
    _add(patient, "birthTime", **({"value": f"{born:%Y%m%d}"} if born else {"nullFlavor": "UNK"}))


def _author(root: _Node, note: ChartNote, facility: Facility, day: str) -> None:
    author = _add(root, "author")
    _add(author, "time", value=day)
    assigned = _add(author, "assignedAuthor")
    person: Practitioner | None = note.physician
    _add(assigned, "id", nullFlavor="UNK", **({"extension": person.id} if person and person.id else {}))
    if person:
        _name(_add(assigned, "assignedPerson"), person.family, person.given)
    _organization(_add(assigned, "representedOrganization"), facility, note.department)


def _organization(node: _Node, facility: Facility, department: str = "") -> None:
    number = facility.institution_number
    # JP-CLINS: 保険医療機関番号 10 digits.
    _add(node, "id", **({"root": "1.2.392.100495.20.3.23", "extension": number} if number else {"nullFlavor": "UNK"}))
    if name := " ".join(filter(None, (facility.name, department))):
        _add(node, "name", name)


def _name(node: _Node, family: str, given: str) -> None:
    name = _add(node, "name")
    _add(name, "family", family)
    _add(name, "given", given)


def _loinc(node: _Node, tag: str, form: Form) -> _Node:
    return _add(node, tag, code=form.code, codeSystem=LOINC, codeSystemName="LOINC", displayName=form.name)


def _text(node: _Node, lines: Sequence[str]) -> None:
    paragraph = _add(node, "paragraph", lines[0])
    for line in lines[1:]:
        _add(paragraph, "br").tail = _clean(line)


def _path(node: _Node, *tags: str) -> _Node:
    for tag in tags:
        node = _add(node, tag)
    return node


def _add(parent: _Node, tag: str, text: str | None = None, /, **attributes: str) -> _Node:
    node = ElementTree.SubElement(parent, tag, {name: _clean(value) for name, value in attributes.items()})
    node.text = None if text is None else _clean(text)
    return node


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)

"""Sections of the documents: fixed codes and titles, narratives, and the truth about what is empty.

Source: JP-CLINS 1.10.0, CodeSystem document-section, and the StructureDefinitions JP_Composition_eReferral and
JP_Composition_eDischargeSummary (fixed title, code and display of each section; text.status `additional`).
"""

from collections.abc import Sequence
from html import escape

from app.fhir.elements import Json, line
from schemas.spelling import fold

SYSTEM = "http://jpfhir.jp/fhir/clins/CodeSystem/document-section"
TITLES = {
    # both documents
    "300": "構造情報", "360": "現病歴", "370": "既往歴", "510": "アレルギー・不耐性反応", "550": "家族歴",
    # 診療情報提供書
    "920": "紹介元情報", "910": "紹介先情報", "950": "紹介目的", "340": "傷病名・主訴", "520": "感染症情報", "430": "投薬指示",
    "620": "検査結果", "330": "臨床経過",
    # 退院時サマリー
    "322": "入院時詳細", "342": "入院時診断", "352": "主訴", "312": "入院理由", "333": "入院中経過", "324": "退院時詳細",
    "344": "退院時診断", "444": "退院時投薬指示", "424": "退院時方針指示", "623": "入院中検査結果",
}  # fmt: skip
"""Title of each section that we write; its display is the title and `セクション`."""

UNAVAILABLE, NIL_KNOWN = "unavailable", "nilknown"
_EMPTY_SYSTEM = "http://terminology.hl7.org/CodeSystem/list-empty-reason"
_EMPTY = {UNAVAILABLE: "Unavailable", NIL_KNOWN: "Nil Known"}


def section(
    code: str,
    entries: Sequence[Json] = (),
    lines: Sequence[str] = (),
    *,
    empty: str | None = None,
    parts: Sequence[Json] = (),
) -> Json:
    """A section with its fixed head. `lines`: the narrative; `entries`: references; `empty`: why it has none, written
    only where it has none (FHIR R4 cmp-2); `parts`: its sub-sections."""
    made: Json = {
        "title": TITLES[code],
        "code": {"coding": [{"system": SYSTEM, "code": code, "display": f"{TITLES[code]}セクション"}]},
    }
    if shown := [text for text in map(line, lines) if text]:
        made["text"] = {"status": "additional", "div": narrative(shown)}
    if entries:
        made["entry"] = list(entries)
    elif empty:
        made["emptyReason"] = {"coding": [{"system": _EMPTY_SYSTEM, "code": empty, "display": _EMPTY[empty]}]}
    if parts:
        made["section"] = list(parts)
    return made


def narrative(lines: Sequence[str]) -> str:
    """An XHTML div; one line stands alone, several are a list. `lines` come from `elements.line`."""
    shown = [escape(text, quote=False) for text in lines]
    body = shown[0] if len(shown) == 1 else "<ul>" + "".join(f"<li>{text}</li>" for text in shown) + "</ul>"
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{body}</div>'


def described(resource: Json) -> str:
    """One line of a narrative: what a resource says, in its own words."""
    kind = resource.get("resourceType")
    if kind == "Observation":
        return " ".join(
            filter(None, (_text(resource, "code"), _result(resource), resource.get("effectiveDateTime", "")))
        )
    if kind == "MedicationRequest":
        usage = [str(d["text"]) for d in resource.get("dosageInstruction", []) if d.get("text")]
        return " ".join((_text(resource, "medicationCodeableConcept"), *usage))
    if kind == "FamilyMemberHistory":
        diseases = [_text(condition, "code") for condition in resource.get("condition", [])]
        return f"{_text(resource, 'relationship')}: {'、'.join(filter(None, diseases))}"
    doubt = "の疑い" if _has(resource, "verificationStatus", "unconfirmed") else ""
    since = f" ({resource['onsetDateTime']}発症)" if kind == "Condition" and resource.get("onsetDateTime") else ""
    return f"{_text(resource, 'code')}{doubt}{since}"


def _result(resource: Json) -> str:
    if quantity := resource.get("valueQuantity"):
        number = f"{quantity.get('comparator', '')}{quantity.get('value', '')} {quantity.get('unit', '')}".strip()
        read = "、".join(filter(None, (str(one.get("text", "")) for one in resource.get("interpretation", []))))
        return f"{number} ({read})" if read else number
    return str(resource.get("valueString", "")) or _text(resource, "valueCodeableConcept")


def _text(resource: Json, element: str) -> str:
    concept = resource.get(element, {})
    displays = (str(coding.get("display", "")) for coding in concept.get("coding", []))
    return str(concept.get("text") or next(displays, ""))


def _has(resource: Json, element: str, code: str) -> bool:
    return any(coding.get("code") == code for coding in resource.get(element, {}).get("coding", []))


def denies_all_allergies(resource: Json) -> bool:
    """Does a refuted AllergyIntolerance deny allergies at large, rather than one allergen?"""
    return fold(_text(resource, "code")) in {"アレルギー", "アレルギー歴", "既知のアレルギー"}

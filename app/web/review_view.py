"""What a review page shows: a note's items with what was read, what was computed of it, and where the note says so."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from app.review_items import Item
from app.web.evidence import Mark, Piece
from app.web.words import issue_words
from schemas import systems
from schemas.coding import Coding
from schemas.issue import Issue
from schemas.record import Dosage, Quantity, Record, ReferenceRange
from schemas.statement import FIELDS, AllergyCategory, Field, Kind, Statement

GROUPS = ("condition", "drug-allergy", "other-allergy", "infection", "lab", "prescription")
"""The six items of JP-CLINS (6 情報): 傷病名, 薬剤アレルギー等, その他のアレルギー等, 感染症, 検査, 処方."""
# As their publishers call them; of others the last part of the canonical is shown.
_SYSTEM_NAMES = {
    systems.DISEASE_KEY: "病名管理番号",
    systems.DISEASE_EXCHANGE: "病名交換用コード",
    systems.RECEIPT_DISEASE: "レセプト電算 傷病名",
    systems.ICD10: "ICD-10",
    systems.MODIFIER_KEY: "修飾語管理番号",
    systems.MODIFIER_EXCHANGE: "修飾語交換用コード",
    systems.RECEIPT_MODIFIER: "レセプト電算 修飾語",
    systems.YJ: "YJ",
    systems.HOT7: "HOT7",
    systems.HOT9: "HOT9",
    systems.GENERAL_NAME: "一般名処方",
    systems.USAGE: "電子処方箋 用法",
    systems.USAGE_JAMI: "JAMI 標準用法",
    systems.JLAC10: "JLAC10",
    systems.CORE_LAB: "CLINS 検査 (JLAC10)",
    systems.CORE_LAB_11: "CLINS 検査 (JLAC11)",
    systems.INFECTION_LAB: "CLINS 感染症 (JLAC10)",
    systems.INFECTION_LAB_11: "CLINS 感染症 (JLAC11)",
    systems.LOCAL_LAB: "施設固有コード",
    systems.JFAGY_FOOD: "J-FAGY 食品",
    systems.JFAGY_OTHER: "J-FAGY その他",
    systems.JFAGY_PRODUCT: "J-FAGY 医薬品 (YCM)",
    systems.JFAGY_INGREDIENT: "J-FAGY 医薬品 (GCM)",
}


@dataclass(frozen=True)
class FieldShown:
    """`written`: in the note; `computed`: of it, where that says more. None: nothing."""

    part: str
    written: str | None
    computed: str | None


@dataclass(frozen=True)
class ItemShown:
    """`state`: the verdict, or `open`; `group`: of `GROUPS`; `labels`: what was picked from closed lists, by its word; `also`:
    how many further places of the note say it; `issues`: in the reader's words."""

    id: str
    version: int
    group: str
    kind: Kind
    state: str
    display: str
    fields: Sequence[FieldShown]
    codings: Sequence[Coding]
    labels: Sequence[tuple[str, str]]
    issues: Sequence[str]
    probability: float | None
    automatic: bool
    explicit: bool
    added: bool
    held: bool
    also: int


@dataclass(frozen=True)
class Check:
    """What a form says, before it is stored. `record`: what is computed of it, None where it says nothing that can be;
    `computed`: by field; `issues`: in the reader's words."""

    record: Record | None
    display: str
    codings: Sequence[Coding]
    issues: Sequence[str]
    computed: Mapping[str, str | None]


def group_of(statement: Statement) -> str:
    if statement.kind is not Kind.ALLERGY:
        return statement.kind.value
    return "drug-allergy" if statement.category is AllergyCategory.MEDICATION else "other-allergy"


def shown(item: Item, record: Record | None, issues: Iterable[Issue], language: str) -> ItemShown:
    """`record`: what is computed of the statement as it stands; `issues`: of it."""
    statement = item.statement
    return ItemShown(
        id=str(item.id),
        version=item.version,
        group=group_of(statement),
        kind=statement.kind,
        state=item.verdict.value if item.verdict else "open",
        display=record.display if record else statement.name.quote,
        fields=fields_of(statement, record),
        codings=codings_of(record),
        labels=labels_of(statement),
        issues=[issue_words(issue.text, language) for issue in issues],
        probability=item.read.probability if item.read and not item.added else None,
        automatic=item.automatic,
        explicit=item.explicit,
        added=item.added,
        held=bool(record and record.held),
        also=len(record.also) if record else 0,
    )


def checked(record: Record | None, issues: Iterable[str], language: str) -> Check:
    """`issues`: the texts of issues and errors."""
    values = _computed(record) if record else {}
    return Check(
        record=record,
        display=record.display if record else "",
        codings=codings_of(record),
        issues=[issue_words(text, language) for text in issues],
        computed={part.value: values.get(part) for part in Field},
    )


def marks_of(item: Item, record: Record | None) -> list[Mark]:
    """Where the note says it."""
    own = [Mark(span.start, span.end, str(item.id), field.value) for field, span in item.statement.fields.items()]
    again = record.also if record else ()
    return own + [Mark(span.start, span.end, str(item.id), "also") for span in again]


def in_groups(items: Iterable[ItemShown]) -> list[tuple[str, list[ItemShown]]]:
    """Those of the six groups that have any."""
    found: Mapping[str, list[ItemShown]] = {group: [] for group in GROUPS}
    for item in items:
        found[item.group].append(item)
    return [(group, inside) for group, inside in found.items() if inside]


def within(issue: Issue, statement: Statement) -> bool:
    """Is the issue about a place that the statement was read from?"""
    if issue.start is None or issue.end is None:
        return False
    return any(span.start < issue.end and issue.start < span.end for span in statement.fields.values())


def fields_of(statement: Statement, record: Record | None) -> list[FieldShown]:
    """In the order of `FIELDS`, with what was computed though the note does not write it (the day of a result)."""
    computed = _computed(record) if record else {}
    found = []
    for field in (*FIELDS[statement.kind], Field.REFERENCE):
        span, value = statement.fields.get(field), computed.get(field)
        written = span.quote if span else None
        if written is not None or value:
            found.append(FieldShown(field.value, written, value if value != written else None))
    return found


def labels_of(statement: Statement) -> list[tuple[str, str]]:
    chosen: list[tuple[str, StrEnum | None]] = [("category", statement.category), ("result", statement.result), ("action", statement.action)]
    if statement.kind in (Kind.CONDITION, Kind.ALLERGY):
        chosen.append(("assertion", statement.assertion))
    return [(word, value.value) for word, value in chosen if value is not None]


def codings_of(record: Record | None) -> list[Coding]:
    if record is None:
        return []
    modifiers = [coding for modifier in record.modifiers for coding in modifier.codings]
    return [*record.codings, *modifiers, *([record.local] if record.local else [])]


def system_name(system: str) -> str:
    return _SYSTEM_NAMES.get(system) or system.rstrip("/:").rpartition("/")[2].rpartition(":")[2] or system


def mark_class(piece: Piece, items: Mapping[str, ItemShown]) -> str:
    """Of a piece with marks; a place that an issue asks to look at is no item's."""
    found = [items[id_] for id_ in piece.items if id_ in items]
    if not found:
        return "look"
    states = {item.state for item in found}
    state = "open" if "open" in states else "reject" if states == {"reject"} else "done"
    parts = {mark.part for mark in piece.marks if mark.item in items}
    further = " also" if parts == {"also"} else ""
    return f"k-{found[0].group} m-{state}" + (" several" if len(found) > 1 else "") + further


def _computed(record: Record) -> Mapping[Field, str | None]:
    day = Field.ONSET if record.statement.kind is Kind.CONDITION else Field.DATE
    dosage = record.dosage or Dosage()
    return {
        day: record.date,
        Field.VALUE: _quantity(record.quantity) if record.quantity else record.text_value,
        Field.UNIT: record.quantity.unit if record.quantity else None,
        Field.FLAG: record.flag,
        Field.REFERENCE: _range(record.reference_range),
        Field.REACTION: "、".join(record.reactions) or None,
        Field.RELATIVE: record.relative,
        Field.DOSE: f"{_plain(dosage.dose)} {dosage.dose_unit or ''}".strip() if dosage.dose is not None else None,
        Field.USAGE: _usage(dosage),
        Field.DAYS: f"{dosage.days}日分" if dosage.days is not None else None,
    }


def _quantity(quantity: Quantity) -> str:
    return f"{quantity.comparator or ''}{_plain(quantity.value)}"


def _range(limits: ReferenceRange | None) -> str | None:
    if limits is None:
        return None
    return f"{_plain(limits.low)}–{_plain(limits.high)}"


def _usage(dosage: Dosage) -> str | None:
    parts = ["頓用"] if dosage.as_needed else []
    if dosage.per_day is not None:
        parts.append(f"1日{dosage.per_day}回")
    parts += [f"{coding.display} [{coding.code}]" for coding in dosage.usage[:1]]
    return " ".join(parts) or None


def _plain(number: Decimal | None) -> str:
    """The digits as written, without an exponent."""
    return "" if number is None else f"{number:f}"

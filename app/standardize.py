"""A statement -> a record: names looked up in the loaded tables, numbers and dates computed, misses named as issues.

Everything comes from the statement's own spans, the note's date and the tables; nothing is inferred from elsewhere.
Source of the rules on values: JP-CLINS 1.10.0, result code systems PosNegHold, Urine, BldABO, BldRh.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from app import normalize
from app.terminology.entries import Entry
from app.terminology.matching import Lexicon, Mention
from schemas.coding import Coding
from schemas.issue import Issue, IssueType, Severity
from schemas.record import Record
from schemas.statement import AllergyCategory, EvidenceSpan, Field, InfectionResult, Kind, Statement

# Sides and states that charts put around a disease name and that do not change which disease it is.
# Only modifiers that no starter disease name begins or ends with may stand here.
_SIDE = re.compile(r"^(?:左右|両側性?|両|右側?|左側?)(?=.{2})")
_TAIL = re.compile(r"(?:の?(?:疑い|既往|術後|治療後|治療中|加療中))$")
# Separators between several reactions written side by side.
_REACTIONS = re.compile(r"[、,，・/／\s　と]+")

_RESULT_WORDS = {
    InfectionResult.POSITIVE: "陽性",
    InfectionResult.NEGATIVE: "陰性",
    InfectionResult.INDETERMINATE: "判定保留",
}


def records(statements: Sequence[Statement], day: date, lexicon: Lexicon) -> tuple[list[Record], list[Issue]]:
    """One record a statement, in order. `day`: the note's date, against which dates are resolved."""
    found: list[Record] = []
    issues: list[Issue] = []
    builders = {
        Kind.CONDITION: _condition,
        Kind.ALLERGY: _allergy,
        Kind.INFECTION: _infection,
        Kind.LAB: _lab,
        Kind.PRESCRIPTION: _prescription,
    }
    for statement in statements:
        record = builders[statement.kind](statement, day, lexicon, issues)
        found.append(record)
        if not record.codings and not _denies_all(record):
            _note(issues, statement.name, IssueType.CODE_INVALID, f"{statement.kind.value}: no table has a code for this name")
    return found, issues


def plausible(statements: Sequence[Statement], lexicon: Lexicon) -> tuple[list[Statement], list[Issue]]:
    """The statements without those whose name cannot be one: a single character, or hiragana alone, that no table
    knows, for a disease, a drug or an infection test. Each one left out becomes an issue."""
    found: list[Statement] = []
    issues: list[Issue] = []
    for statement in statements:
        name = normalize.expand_name(statement.name.quote)
        unlikely = len(name) < 2 or all("\u3041" <= c <= "\u309f" for c in name)
        if unlikely and statement.kind not in (Kind.LAB, Kind.ALLERGY) and not lexicon.lookup(statement.kind, name):
            _note(issues, statement.name, IssueType.VALUE, f"{statement.kind.value}: left out, this cannot be its name")
        else:
            found.append(statement)
    return found, issues


# What says that something was not tolerated, within the sentence and a few characters of its name.
_REACTION = re.compile(
    r"[^。\n]{0,15}?(?:アレルギ|発疹|皮疹|薬疹|紅斑|蕁麻疹|じんま疹|アナフィラキシ|ショック|呼吸苦|呼吸困難|喘鳴|掻痒|かゆみ|膨隆疹|血圧低下|禁忌|かぶれ)"
)


def unread_allergies(text: str, mentions: Sequence[Mention], statements: Sequence[Statement]) -> list[Issue]:
    """An issue for every known drug or allergen that a reaction stands beside and that no allergy statement covers.

    It is no statement: the note may deny it, or tell of something else. It asks a person to read the place, because a
    drug allergy that was overlooked can kill.
    """
    covered = [s.name for s in statements if s.kind is Kind.ALLERGY]
    issues: list[Issue] = []
    for mention in mentions:
        if mention.kind not in (Kind.PRESCRIPTION, Kind.ALLERGY) or not _REACTION.match(text, mention.end):
            continue
        if not any(name.start < mention.end and mention.start < name.end for name in covered):
            words = "a drug or allergen stands beside a reaction here, and no allergy was read: please look"
            issues.append(
                Issue(
                    severity=Severity.WARNING,
                    code=IssueType.INCOMPLETE,
                    text=words,
                    start=mention.start,
                    end=mention.end,
                )
            )
    return issues


def _note(issues: list[Issue], span: EvidenceSpan, code: IssueType, text: str) -> None:
    issues.append(Issue(severity=Severity.WARNING, code=code, text=text, start=span.start, end=span.end))


def _quote(statement: Statement, field: Field) -> str | None:
    span = statement.fields.get(field)
    return span.quote if span else None


# What a unit is made of: a name that a model took for one, or a bare number, is none.
_UNIT = re.compile(
    r"%|‰|℃|°|[μunmpfkdM]?(?:g|L|l|mol|M|m|U|IU|Eq|Osm|s)(?![a-z])|秒|分|時|日|倍|個|回|比|型|点|度|年|万|億|cop|Log|log|INR|C\.?O\.?I|CO|index|[Tt]orr|Hg|H?[PL]F"
    r"|sec|min|hr?|BU|AU|EU|SI|cells|10\^|ratio"
)


def _unit(statement: Statement, issues: list[Issue]) -> str | None:
    span = statement.fields.get(Field.UNIT)
    if span is None:
        return None
    folded = normalize.fold_unit(span.quote)
    if re.fullmatch(r"[\d.,\s]*", folded) or not _UNIT.search(folded):
        _note(issues, span, IssueType.VALUE, f"{statement.kind.value}: the unit is none that is known; it was left out")
        return None
    return span.quote


def _date(statement: Statement, field: Field, day: date, issues: list[Issue]) -> str | None:
    span = statement.fields.get(field)
    if span is None:
        return None
    parsed = normalize.parse_date(span.quote, day)
    if parsed is None:
        _note(issues, span, IssueType.VALUE, f"{statement.kind.value}: the {field.value} is not a date that can be computed")
    return parsed


def _known(entry: Entry | None, written: str) -> tuple[str, tuple[Coding, ...]]:
    """Display and codings: the table's display where the name is a known synonym, else the name as written."""
    return (entry.display, entry.codings) if entry else (written, ())


def _condition(statement: Statement, day: date, lexicon: Lexicon, issues: list[Issue]) -> Record:
    written = normalize.expand_name(statement.name.quote)
    entry = lexicon.lookup(Kind.CONDITION, written)
    display, codings = _known(entry, written)
    if entry is None:
        bare = _TAIL.sub("", _SIDE.sub("", written))
        codings = _known(lexicon.lookup(Kind.CONDITION, bare), bare)[1]
    relative = _quote(statement, Field.RELATIVE)
    onset = _date(statement, Field.ONSET, day, issues)
    return Record(statement=statement, display=display, codings=codings, date=onset, relative=relative)


# Words that deny allergies in general rather than to one substance.
_GENERAL = re.compile(r"^(?:アレルギ[ーｰ]?歴?|allergy|薬剤?|食物|食品|その他|薬剤アレルギー歴?|食物アレルギー歴?|薬・食物アレルギー)$", re.IGNORECASE)


def _denies_all(record: Record) -> bool:
    return record.statement.kind is Kind.ALLERGY and bool(_GENERAL.match(record.display))


def _allergy(statement: Statement, day: date, lexicon: Lexicon, issues: list[Issue]) -> Record:
    written = normalize.expand_name(statement.name.quote)
    bare = re.sub(r"(?:アレルギー|過敏症?)$", "", written) or written
    entry = lexicon.lookup(Kind.ALLERGY, written) or lexicon.lookup(Kind.ALLERGY, bare)
    category = statement.category
    display = written
    codings: tuple[Coding, ...] = ()
    if entry:
        display, codings = _known(entry, written)
        category = AllergyCategory(entry.properties["category"])
    elif _drug(lexicon, written):
        # JP-CLINS codes allergens by JFAGY only; a drug's own code is not one (JP_AllergyIntolerance_eCS, code binding).
        category = AllergyCategory.MEDICATION
    if category is not statement.category:
        statement = statement.model_copy(update={"category": category})
    reaction = _quote(statement, Field.REACTION)
    reactions = tuple(r for r in _REACTIONS.split(normalize.expand_name(reaction)) if r) if reaction else ()
    return Record(statement=statement, display=display, codings=codings, reactions=reactions)


def _quantitative(entry: Entry, unit: str | None, lexicon: Lexicon) -> Entry | None:
    """The quantitative test of the same infection in `unit`. International units are written IU or U."""

    def plain(text: str) -> str:
        return normalize.fold_unit(text).replace("IU", "U").replace(".", "").replace("S/CO", "COI").upper()

    tests = [e for e in lexicon.group(entry) if e.properties["kind"] == "quantity"]
    return next((e for e in tests if unit and plain(unit) in map(plain, e.properties["units"].split("|"))), None)


def _infection(statement: Statement, day: date, lexicon: Lexicon, issues: list[Issue]) -> Record:
    written = normalize.expand_name(statement.name.quote)
    entry = lexicon.lookup(Kind.INFECTION, written)
    value, unit = _quote(statement, Field.VALUE), _unit(statement, issues)
    quantity = normalize.parse_quantity(value, unit) if value else None
    result = statement.result
    text = _RESULT_WORDS[result] if result else None
    if text is None and quantity is None and value:
        text = normalize.parse_qualitative(value)
        if text is None:
            _note(issues, statement.fields[Field.VALUE], IssueType.VALUE, "infection: the result is not understood")
    if entry and quantity and result is None:
        entry = _quantitative(entry, quantity.unit, lexicon) or entry
        if entry.properties["kind"] != "quantity":
            # A number under the code of a qualitative test would be wrong, so the name stays uncoded.
            entry = replace(entry, codings=())
    display, codings = _known(entry, written)
    collected = _date(statement, Field.DATE, day, issues) or day.isoformat()
    return Record(
        statement=statement, display=display, codings=codings, date=collected, quantity=quantity, text_value=text
    )


def _lab(statement: Statement, day: date, lexicon: Lexicon, issues: list[Issue]) -> Record:
    written = normalize.expand_name(statement.name.quote)
    entry = lexicon.lookup(Kind.LAB, written)
    kind = entry.properties["kind"] if entry else ""
    span = statement.fields.get(Field.VALUE)
    quantity = text = None
    if span:
        value = span.quote
        if kind == "abo":
            text = normalize.parse_blood_group(value)
        elif kind == "rh":
            text = normalize.parse_qualitative(value)
        elif kind == "urine":
            text = normalize.parse_graded(value)
        if text is None:
            quantity = normalize.parse_quantity(value, _unit(statement, issues))
        if text is None and quantity is None:
            if kind in ("posneg", "quantity"):
                text = normalize.parse_qualitative(value) or normalize.parse_graded(value)
            text = text or normalize.parse_graded(value) or normalize.parse_qualitative(value)
            text = text or normalize.parse_blood_group(value)
        if text is None and quantity is None:
            _note(issues, span, IssueType.VALUE, "lab: the result is not a number or a known qualitative result")
            text = normalize.expand_name(value)
    collected = _date(statement, Field.DATE, day, issues) or day.isoformat()
    flag = _quote(statement, Field.FLAG)
    return Record(
        statement=statement,
        display=written,
        codings=entry.codings if entry else (),
        date=collected,
        quantity=quantity,
        text_value=text,
        flag=normalize.expand_name(flag) if flag else None,
    )


# Form and strength behind an ingredient or brand: アムロジピンOD錠5mg, ロキソニン(60), カマグ 330.
_FORM = re.compile(
    r"(?:[\s　]*[(（]?(?:OD錠|口腔内崩壊錠|腸溶錠|徐放錠|CR錠|LA錠|L錠|錠|カプセル|散|細粒|顆粒|シロップ|点眼液|点眼|軟膏|クリーム|テープ|坐剤|坐薬"
    r"|吸入|注射?液?|液|[0-9.]+\s*(?:mg|μg|ug|g|mL|%|単位)?)[)）]?)+$",
    re.IGNORECASE,
)


def _drug(lexicon: Lexicon, written: str) -> Entry | None:
    return lexicon.lookup(Kind.PRESCRIPTION, written) or lexicon.lookup(Kind.PRESCRIPTION, _FORM.sub("", written))


def _prescription(statement: Statement, day: date, lexicon: Lexicon, issues: list[Issue]) -> Record:
    written = normalize.expand_name(statement.name.quote)
    entry = _drug(lexicon, written)
    dose, usage, days = (_quote(statement, f) for f in (Field.DOSE, Field.USAGE, Field.DAYS))
    dosage = normalize.parse_dosage(written, dose, usage, days)
    if dose and dosage.dose is None:
        _note(issues, statement.fields[Field.DOSE], IssueType.VALUE, "prescription: the dose was not computed")
    return Record(statement=statement, display=written, codings=entry.codings if entry else (), dosage=dosage)

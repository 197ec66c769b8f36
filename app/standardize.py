"""A statement -> a record: names coded (`app.coding`), numbers and dates computed, misses named as issues.

Everything comes from the statement's own spans, the note's date and the tables; nothing is inferred from elsewhere.
Source of the rules on values: JP-CLINS 1.10.0, result code systems PosNegHold, Urine, BldABO, BldRh.
"""

import re
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from app import coding, methods, normalize
from app.coding import MIN_SCORE, Coded
from app.terminology.drugs import parse_drug
from app.terminology.matching import Lexicon, Mention
from schemas.issue import Issue, IssueType, Severity
from schemas.record import Record, ReferenceRange
from schemas.statement import Assertion, EvidenceSpan, Field, InfectionResult, Kind, Statement

# Separators between several reactions written side by side.
_REACTIONS = re.compile(r"[、,，・/／\s　と]+")

_RESULT_WORDS = {
    InfectionResult.POSITIVE: "陽性",
    InfectionResult.NEGATIVE: "陰性",
    InfectionResult.INDETERMINATE: "判定保留",
}


def records(
    statements: Sequence[Statement], day: date, lexicon: Lexicon, min_score: float = MIN_SCORE
) -> tuple[list[Record], list[Issue]]:
    """One record a statement, in order. `day`: the note's date, against which dates are resolved. `min_score`: likeness
    from which a disease or test is coded by the one name that is near (0..1, setting CODING_MIN_SCORE)."""
    found: list[Record] = []
    issues: list[Issue] = []
    for before, statement, behind in zip([None, *statements], statements, [*statements[1:], None], strict=False):
        record = _record(statement, _Beside(before, behind), day, lexicon, min_score, issues)
        found.append(record)
        if not record.codings and not _denies_all(record):
            _note(issues, statement.name, IssueType.CODE_INVALID, f"{statement.kind.value}: no table has a code for this name")
    return found, issues


def _record(
    statement: Statement, beside: "_Beside", day: date, lexicon: Lexicon, min_score: float, issues: list[Issue]
) -> Record:
    match statement.kind:
        case Kind.CONDITION:
            return _condition(statement, day, lexicon, min_score, issues)
        case Kind.ALLERGY:
            return _allergy(statement, lexicon)
        case Kind.INFECTION:
            return _infection(statement, day, lexicon, min_score, issues)
        case Kind.LAB:
            return _lab(statement, beside, day, lexicon, min_score, issues)
        case Kind.PRESCRIPTION:
            return _prescription(statement, lexicon, issues)


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


def _collected(statement: Statement, day: date, issues: list[Issue]) -> str | None:
    """The day of a result: the note's unless another is written. None where that one cannot be computed, since the
    note's day would make an old result a new one."""
    return _date(statement, Field.DATE, day, issues) if Field.DATE in statement.fields else day.isoformat()


def _date(statement: Statement, field: Field, day: date, issues: list[Issue]) -> str | None:
    span = statement.fields.get(field)
    if span is None:
        return None
    parsed = normalize.parse_date(span.quote, day)
    if parsed is None:
        _note(issues, span, IssueType.VALUE, f"{statement.kind.value}: the {field.value} is not a date that can be computed")
    return parsed


def _condition(
    statement: Statement, day: date, lexicon: Lexicon, min_score: float, issues: list[Issue]
) -> Record:
    coded = coding.disease(normalize.expand_name(statement.name.quote), lexicon, min_score)
    if coded.assertion and statement.assertion is Assertion.PRESENT:
        # 肺炎の疑い copied whole as a name: the name itself says that it is not certain.
        statement = statement.model_copy(update={"assertion": coded.assertion})
    onset = _date(statement, Field.ONSET, day, issues)
    return Record(
        statement=statement,
        display=coded.display,
        codings=coded.codings,
        candidates=coded.candidates,
        modifiers=coded.modifiers,
        date=onset,
        relative=_quote(statement, Field.RELATIVE),
    )


# Words that deny allergies in general rather than to one substance.
_GENERAL = re.compile(r"^(?:アレルギ[ーｰ]?歴?|allergy|薬剤?|食物|食品|その他|薬剤アレルギー歴?|食物アレルギー歴?|薬・食物アレルギー)$", re.IGNORECASE)


def _denies_all(record: Record) -> bool:
    return record.statement.kind is Kind.ALLERGY and bool(_GENERAL.match(record.display))


def _allergy(statement: Statement, lexicon: Lexicon) -> Record:
    coded = coding.allergen(normalize.expand_name(statement.name.quote), lexicon)
    if coded.category and coded.category is not statement.category:
        statement = statement.model_copy(update={"category": coded.category})
    reaction = _quote(statement, Field.REACTION)
    reactions = tuple(r for r in _REACTIONS.split(normalize.expand_name(reaction)) if r) if reaction else ()
    return Record(
        statement=statement,
        display=coded.display,
        codings=coded.codings,
        candidates=coded.candidates,
        reactions=reactions,
    )


def _infection(
    statement: Statement, day: date, lexicon: Lexicon, min_score: float, issues: list[Issue]
) -> Record:
    coded = coding.test(Kind.INFECTION, normalize.expand_name(statement.name.quote), lexicon, min_score)
    value, unit = _quote(statement, Field.VALUE), _unit(statement, issues)
    quantity = normalize.parse_quantity(value, unit) if value else None
    result = statement.result
    text = _RESULT_WORDS[result] if result else None
    if text is None and quantity is None and value:
        text = normalize.parse_qualitative(value)
        if text is None:
            _note(issues, statement.fields[Field.VALUE], IssueType.VALUE, "infection: the result is not understood")
    coded = methods.fitting(Kind.INFECTION, coded, quantity, text, unit, lexicon)
    return Record(
        statement=statement,
        display=coded.display,
        codings=coded.codings,
        candidates=coded.candidates,
        local=coded.local,
        date=_collected(statement, day, issues),
        quantity=quantity,
        text_value=text,
        reference_range=_reference(statement),
    )


def _reference(statement: Statement) -> ReferenceRange | None:
    span = statement.fields.get(Field.REFERENCE)
    limits = normalize.parse_reference_range(span.quote) if span else None
    return ReferenceRange(low=limits[0], high=limits[1]) if limits else None


_COMPARED = re.compile(r"(?:以上|以下|未満|超)$")


def _compared(statement: Statement) -> Statement:
    """40倍以下: what compares belongs to the value, wherever the copied unit ends. The value's span then goes up to it,
    over the unit, when the two stand side by side."""
    value, unit = (statement.fields.get(field) for field in (Field.VALUE, Field.UNIT))
    found = _COMPARED.search(unit.quote) if unit else None
    if value is None or unit is None or found is None or not found.start() or unit.start != value.end:
        return statement
    whole = EvidenceSpan(start=value.start, end=unit.end, quote=value.quote + unit.quote)
    bare = EvidenceSpan(start=unit.start, end=unit.start + found.start(), quote=unit.quote[: found.start()])
    return statement.model_copy(update={"fields": statement.fields | {Field.VALUE: whole, Field.UNIT: bare}})


# Fields of a urine dipstick as its line in a chart names them.
_DIPSTICK = {
    **dict.fromkeys(("pro", "prot", "蛋白", "タンパク"), "尿蛋白"),
    **dict.fromkeys(("glu", "糖"), "尿糖"),
    **dict.fromkeys(("ob", "bld", "潜血"), "尿潜血"),
    **dict.fromkeys(("ket", "ケトン", "ケトン体"), "尿ケトン体"),
    **dict.fromkeys(("uro", "ウロビリノーゲン"), "尿ウロビリノーゲン"),
    **dict.fromkeys(("bil", "ビリルビン"), "尿ビリルビン"),
}
_FLU = re.compile(r"(?:インフル|flu)", re.IGNORECASE)


class _Beside(NamedTuple):
    """The statements before and behind one, of whatever kind."""

    before: Statement | None
    behind: Statement | None


def _dipstick(statement: Statement | None) -> str | None:
    """The urine test that a graded field of a dipstick names."""
    value = statement.fields.get(Field.VALUE) if statement and statement.kind is Kind.LAB else None
    if statement is None or value is None or not normalize.parse_graded(value.quote):
        return None
    return _DIPSTICK.get(normalize.expand_name(statement.name.quote).lower())


def _called(statement: Statement, beside: _Beside) -> str | None:
    """What a name that is too short to be one stands for, by its value and the tests beside it; None for all others.

    pro(-) glu(-) OB(1+); インフルエンザA(+)・B(-).
    """
    value = statement.fields.get(Field.VALUE)
    name = normalize.expand_name(statement.name.quote)
    if value is None or normalize.parse_quantity(value.quote, None) is not None:
        return None
    if field := _dipstick(statement):
        # Alone, Glu (-) may be of any fluid.
        return field if {_dipstick(one) for one in beside} - {None, field} else None
    before = beside.before
    if name in ("A", "B", "A型", "B型") and before is not None and before.kind is Kind.LAB and _FLU.search(before.name.quote):
        return f"インフルエンザ{name[0]}" if normalize.parse_qualitative(value.quote) else None
    return None


def _lab(
    statement: Statement, beside: _Beside, day: date, lexicon: Lexicon, min_score: float, issues: list[Issue]
) -> Record:
    statement = _compared(statement)
    written = normalize.expand_name(statement.name.quote)
    called = _called(statement, beside)
    coded = coding.test_called(written, called, lexicon) if called else coding.test(Kind.LAB, written, lexicon, min_score)
    kind = coded.entry.fact("kind") if coded.entry else ""
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
    coded = methods.fitting(Kind.LAB, coded, quantity, text, _quote(statement, Field.UNIT), lexicon)
    collected = _collected(statement, day, issues)
    flag = _quote(statement, Field.FLAG)
    return Record(
        statement=statement,
        display=coded.display,
        codings=coded.codings,
        candidates=coded.candidates,
        local=coded.local,
        date=collected,
        quantity=quantity,
        text_value=text,
        flag=normalize.expand_name(flag) if flag else None,
        reference_range=_reference(statement),
    )


# ヘパリン5000単位 iv: without a form in the name the amount is what is given, not the strength of a product.
_GIVEN = re.compile(
    r"(?<![A-Za-z0-9０-９.．])[0-9０-９]+(?:[,.，．][0-9０-９]+)*\s*(?:mg|ｍｇ|㎎|g|ｇ|mcg|[μµu]g|μｇ|mL|ml|ｍＬ|ｍｌ|㎖|万?単位|国際単位|IU|mEq)(?:/(?:日|day|回))?$"
)
_SPLIT = re.compile(r"分\s*[2-9２-９二三四]|[2-9２-９]\s*[x×]|[x×]\s*[2-9２-９]|に分けて")


def _given(statement: Statement) -> Statement:
    """The statement with the amount at the end of its name as its dose, when it has a usage and no other dose.

    Not with 分3: whether 250mg is then the day's amount or that of each intake is written nowhere. Without a usage the
    amount may as well be the strength of what is taken (常用薬：アムロジピン5mg).
    """
    name, usage = statement.name, statement.fields.get(Field.USAGE)
    if Field.DOSE in statement.fields or usage is None or _SPLIT.search(usage.quote):
        return statement
    found = _GIVEN.search(name.quote)
    if found is None or not found.start() or parse_drug(name.quote).forms:
        return statement
    dose = EvidenceSpan(start=name.start + found.start(), end=name.end, quote=found[0])
    return statement.model_copy(update={"fields": statement.fields | {Field.DOSE: dose}})


def _prescription(statement: Statement, lexicon: Lexicon, issues: list[Issue]) -> Record:
    statement = _given(statement)
    written = normalize.expand_name(statement.name.quote)
    coded = coding.drug(written, lexicon)
    dose, usage, days = (_quote(statement, f) for f in (Field.DOSE, Field.USAGE, Field.DAYS))
    dosage = normalize.parse_dosage(written, dose, usage, days)
    if dose and dosage.dose is None:
        _note(issues, statement.fields[Field.DOSE], IssueType.VALUE, "prescription: the dose was not computed")
    if usage:
        # 朝食後 of a patch is not 朝食後 of a tablet: the drug says the route where the usage does not.
        route = _route(written, coded, dosage.dose_unit, lexicon)
        usage_key = normalize.usage_key(usage if route in usage else f"{route} {usage}") if route is not None else None
        dosage = dosage.model_copy(update={"usage": lexicon.usage(usage_key or "")})
    return Record(
        statement=statement, display=coded.display, codings=coded.codings, candidates=coded.candidates, dosage=dosage
    )


_BY_MOUTH = "内服"
# Units of a dose that are of one route only; 単位 of an injection where the drug is not one that is swallowed.
_ROUTE_OF_UNIT = {
    **dict.fromkeys(("錠", "カプセル", "包"), _BY_MOUTH),
    **dict.fromkeys(("枚", "吸入", "噴霧", "プッシュ", "吹", "puff", "ブリスター"), "外用"),
}
_INJECTED_UNITS, _INJECTED = ("単位", "IU"), "注射"


def _route(written: str, coded: Coded, unit: str | None, lexicon: Lexicon) -> str | None:
    """The route by the form in the written name or in the product that it is coded with, by the unit of the dose, or by
    the forms of all products of that brand or ingredient (ノボラピッド is injected whatever the meals).

    "": nothing says it, or the drug is swallowed too, as meals in the usage then tell. None: it is not swallowed, and
    nothing says which other way it is given.
    """
    for name in (written, *(one.display for one in coded.codings)):
        if route := normalize.usage_route(name):
            return route
    if unit in _ROUTE_OF_UNIT:
        return _ROUTE_OF_UNIT[unit]
    routes = {normalize.usage_route(product) for product in lexicon.drugs.products(written)}
    if not routes - {None} or _BY_MOUTH in routes:
        return _INJECTED if unit in _INJECTED_UNITS and not routes else ""
    return routes.pop() if len(routes) == 1 else None

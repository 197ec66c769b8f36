"""The checks of a claim that need no model. A finding is a reason for a person to look, not a decision.

Nothing is said where a table has no row and where the claim does not tell what is needed. `Finding.row` is the table and key
of the row that speaks (`limits:112011010`; `duplicates:` has both codes with a hyphen between), or `rule:` and the rule's id.
"""

from collections.abc import Iterator

from app.receipts.facts import Facts
from app.receipts.tables import UNCODED, Act, People, Tables, fold
from app.receipts.times import time_findings
from app.receipts.uke import Claim, Disease, Item
from schemas.issue import Severity
from schemas.receipt import Finding, Rule

OPEN_MONTHS = 3
"""From so many months on a 疑い is told."""
_MASTER = "診療行為マスター 下限年齢・上限年齢"
_SEXES = {"male": "男性", "female": "女性"}
_SUSPICION = "の疑い"


def check(claim: Claim, tables: Tables) -> list[Finding]:
    """In line order."""
    facts = Facts(claim, tables)
    findings = [
        finding
        for rule in (_disease_findings, _item_findings, _comment_findings, time_findings)
        for finding in rule(facts)
    ]
    return sorted(findings, key=lambda finding: finding.line)


def _disease_findings(facts: Facts) -> Iterator[Finding]:
    tables, month = facts.tables, facts.month
    for disease, prefixes in facts.diseases:
        row = tables.diseases.get(disease.code)
        if row is None:
            if "diseases" in tables.whole:
                yield facts.found(Rule.UNKNOWN_CODE, disease, "傷病名マスターにないコード")
        elif month and row.valid_to and row.valid_to < month:
            successor = tables.diseases.get(row.successor)
            moved = f"、移行先は{row.successor} {fold(successor.name) if successor else ''}".rstrip() if row.successor else ""
            yield _ended(facts, disease, "diseases", disease.code, f"{row.valid_to:%Y年%m月%d日}で廃止{moved}")
        yield from _modifier_findings(facts, disease)
        if disease.code == UNCODED and disease.name:
            yield from _named(facts, disease, disease.name)
        if disease.suspected and not disease.ended and disease.started and month:
            months = (month.year - disease.started.year) * 12 + month.month - disease.started.month
            if months >= OPEN_MONTHS:
                yield facts.found(
                    Rule.SUSPECTED_OPEN,
                    disease,
                    f"疑いのまま{months}か月（確定、転帰又は中止を確認）",
                    severity=Severity.INFORMATION,
                )
        for prefix in prefixes:
            if people := tables.people.get(prefix):
                yield from _people(facts, disease, people, f"people:{prefix}")


def _modifier_findings(facts: Facts, disease: Disease) -> Iterator[Finding]:
    tables = facts.tables
    ended = tables.ended.get("modifiers", {})
    for code in disease.modifiers:
        if code not in tables.modifiers:
            if "modifiers" in tables.whole:
                yield facts.found(Rule.UNKNOWN_CODE, disease, f"修飾語マスターにないコード {code}")
        elif facts.month and code in ended and ended[code] < facts.month:
            yield _ended(facts, disease, "modifiers", code, f"修飾語 {code} は{ended[code]:%Y年%m月%d日}で廃止")


def _named(facts: Facts, disease: Disease, name: str) -> Iterator[Finding]:
    """未コード化傷病名 whose name has a code, as it stands or with modifiers at its ends."""
    if code := coded(name, facts.tables):
        yield facts.found(
            Rule.UNCODED_NAME,
            disease,
            f"傷病名コードがある（{code} {fold(facts.tables.diseases[code].name)}）",
            row=f"diseases:{code}",
            reference="診療報酬請求書等の記載要領（昭和51年保険発第82号）別紙1 傷病名欄（傷病名コード）",
            severity=Severity.INFORMATION,
        )


def coded(name: str, tables: Tables) -> str | None:
    """The code of the disease that a written name is, modifiers taken off its ends (the fewest that do), or None."""
    tried = [fold(name).replace(" ", "").removesuffix(_SUSPICION)]
    for rest in tried:
        if code := tables.disease_codes.get(rest):
            return code
        for end in range(1, len(rest)):
            # 8000 and up stand behind the name, all others before it.
            if (before := tables.modifier_codes.get(rest[:end])) and not before.startswith("8"):
                tried.append(rest[end:])
            if (behind := tables.modifier_codes.get(rest[end:])) and behind.startswith("8"):
                tried.append(rest[:end])
        if len(tried) > 50:
            return None
    return None


def _item_findings(facts: Facts) -> Iterator[Finding]:
    tables, month = facts.tables, facts.month
    for item in facts.items:
        if item.kind == "TO":
            continue
        kind = "acts" if item.kind == "SI" else "drugs"
        row = tables.acts.get(item.code) if item.kind == "SI" else tables.drugs.get(item.code)
        if row is None:
            if kind in tables.whole:
                yield facts.found(Rule.UNKNOWN_CODE, item, f"{_NAMES[kind]}マスターにないコード")
        elif month and row.valid_to and row.valid_to < month:
            yield _ended(facts, item, kind, item.code, f"{row.valid_to:%Y年%m月%d日}で廃止")
        subject = tables.subject(item)
        if people := tables.people.get(subject):
            yield from _people(facts, item, people, f"people:{subject}")
        elif isinstance(row, Act) and (row.sex or row.min_age is not None or row.max_age is not None):
            limits = People("act", row.sex, row.min_age, row.max_age, _MASTER)
            yield from _people(facts, item, limits, f"acts:{row.code}")
        yield from _indication(facts, item, subject)
        yield from _contraindication(facts, item, subject)


def _indication(facts: Facts, item: Item, subject: str) -> Iterator[Finding]:
    wanted = facts.tables.indications.get(subject)
    if wanted is None or not wanted.icd10.isdisjoint(facts.confirmed):
        return
    suspected = not wanted.icd10.isdisjoint(facts.suspected)
    if suspected and wanted.kind == "act":
        return
    # A name without a code may be the very disease: then it is only said.
    severity = Severity.INFORMATION if facts.unclear else Severity.WARNING
    note = "（コードで判断できない傷病名がある）" if facts.unclear else ""
    if suspected:
        others = tuple(disease.line for disease in facts.under(wanted.icd10, suspected=True))
        rule, text = Rule.SUSPECTED_INDICATION, "適応の傷病名が疑いのみ"
    else:
        others, rule, text = (), Rule.INDICATION, "適応の傷病名なし"
    yield facts.found(
        rule, item, text + note, row=f"indications:{subject}", reference=wanted.reference, severity=severity, others=others
    )


def _contraindication(facts: Facts, item: Item, subject: str) -> Iterator[Finding]:
    against = facts.tables.contraindications.get(subject)
    if against is None or against.icd10.isdisjoint(facts.confirmed):
        return
    diseases = list(facts.under(against.icd10, suspected=False))
    named = "、".join(facts.disease_name(disease) for disease in diseases)
    yield facts.found(
        Rule.CONTRAINDICATION,
        item,
        f"{named}に禁忌",
        row=f"contraindications:{subject}",
        reference=against.reference,
        others=tuple(disease.line for disease in diseases),
    )


def _people(facts: Facts, line: Item | Disease, people: People, row: str) -> Iterator[Finding]:
    female = facts.claim.female
    if people.sex and female is not None and people.sex != ("female" if female else "male"):
        yield facts.found(Rule.SEX, line, f"{_SEXES[people.sex]}のみ", row=row, reference=people.reference)
    ages = facts.ages(line if isinstance(line, Item) else None)
    if ages is None:
        return
    if people.min_age is not None and ages[0] < people.min_age:
        yield facts.found(Rule.AGE, line, f"{people.min_age}歳以上（{ages[0]}歳）", row=row, reference=people.reference)
    elif people.max_age is not None and ages[1] > people.max_age:
        yield facts.found(Rule.AGE, line, f"{people.max_age}歳以下（{ages[1]}歳）", row=row, reference=people.reference)


def _comment_findings(facts: Facts) -> Iterator[Finding]:
    """A comment is no line of its own: it is told at the first item of its 剤."""
    tables = facts.tables
    ended = tables.ended.get("comments", {})
    if "comments" not in tables.whole and not ended:
        return
    first: dict[int, Item] = {}
    for item in facts.items:
        first.setdefault(item.group, item)
    beside: list[tuple[Item, str, tuple[int, ...]]]
    beside = [(item, code, ()) for item in facts.items for code, _ in item.comments]
    beside += [(first[c.group], c.code, (c.line,)) for c in facts.claim.comments if c.group in first]
    for item, code, others in beside:
        if code not in tables.comments:
            if "comments" in tables.whole:
                yield facts.found(Rule.UNKNOWN_CODE, item, f"コメントマスターにないコード {code}", others=others)
        elif facts.month and code in ended and ended[code] < facts.month:
            yield _ended(facts, item, "comments", code, f"コメント {code} は{ended[code]:%Y年%m月%d日}で廃止", others)


_NAMES = {"acts": "診療行為", "drugs": "医薬品", "diseases": "傷病名", "modifiers": "修飾語", "comments": "コメント"}


def _ended(
    facts: Facts, line: Item | Disease, kind: str, code: str, text: str, others: tuple[int, ...] = ()
) -> Finding:
    reference = f"{_NAMES[kind]}マスター 廃止年月日"
    return facts.found(Rule.ENDED_CODE, line, text, row=f"{kind}:{code}", reference=reference, others=others)

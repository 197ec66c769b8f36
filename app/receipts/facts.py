"""What the checks need to know of one claim, gathered once."""

from collections.abc import Iterator
from datetime import date
from functools import lru_cache

from app.receipts.describe import age_on, month_end
from app.receipts.tables import Tables, fold
from app.receipts.uke import Claim, Disease, Item
from schemas.issue import Severity
from schemas.receipt import Finding, Rule

RULES = {
    Rule.INDICATION: "診療報酬請求書等の記載要領（昭和51年保険発第82号）別紙1 傷病名欄",
    Rule.DUPLICATE: "保険医療機関及び保険医療養担当規則 第20条第2号（投薬）",
    Rule.SUSPECTED_OPEN: "診療報酬請求書等の記載要領（昭和51年保険発第82号）別紙1 傷病名欄",
    Rule.UNKNOWN_CODE: "記録条件仕様（医科用） コードは基本マスターによる",
    Rule.COUNT: "記録条件仕様（医科用） 回数及び算定日情報",
    Rule.VISIT_DAY: "記録条件仕様（医科用） 受診日等レコード",
}
"""The documents behind the rules that no row of a table speaks for; they are cited as `rule:count` and so on."""

# Names of the masters come again and again; what a claim writes itself is not kept.
_folded = lru_cache(maxsize=10_000)(fold)


class Facts:
    """`confirmed`, `suspected`: all that the ICD-10 codes of the claim's diseases begin with, the codes themselves included.
    `unclear`: a disease has no code of the tables, so what is missing cannot be said for certain. `of_code`: its items by
    code, in line order."""

    def __init__(self, claim: Claim, tables: Tables) -> None:
        self.claim = claim
        self.tables = tables
        self.items = claim.items
        self.month = claim.month
        self.end = month_end(self.month) if self.month else None
        self.birth = claim.birth_date
        self.unclear = False
        self.diseases: list[tuple[Disease, frozenset[str]]] = []
        confirmed: set[str] = set()
        suspected: set[str] = set()
        for disease in claim.diseases:
            if self.end and disease.started and disease.started > self.end:
                continue
            codes = tables.icd10(disease)
            self.unclear |= not codes
            prefixes = frozenset(code[:n] for code in codes for n in range(1, len(code) + 1))
            self.diseases.append((disease, prefixes))
            (suspected if disease.suspected else confirmed).update(prefixes)
        self.confirmed, self.suspected = confirmed, suspected
        self.of_code: dict[str, list[Item]] = {}
        for item in self.items:
            self.of_code.setdefault(item.code, []).append(item)
        self._commented = {comment.group for comment in claim.comments}

    def date_of(self, day: int) -> date | None:
        """None: not a day of the claim's month."""
        if self.month is None or self.end is None or not 1 <= day <= self.end.day:
            return None
        return self.month.replace(day=day)

    def week_of(self, day: int) -> int | None:
        """Number of the week within the month, from 0; it begins on Sunday."""
        if self.month is None:
            return None
        return (day - 1 + self.month.isoweekday() % 7) // 7

    def ages(self, item: Item | None = None) -> tuple[int, int] | None:
        """Ages to hold against a lower and an upper limit: on the first and the last of the item's days. Where none are
        written, on the month's last and first day, so that only what is wrong all month is told. None: unknown."""
        if self.birth is None or self.month is None or self.end is None:
            return None
        written = [day for n in (item.days if item else ()) if (day := self.date_of(n))]
        if written:
            return age_on(self.birth, min(written)), age_on(self.birth, max(written))
        return age_on(self.birth, self.end), age_on(self.birth, self.month)

    def under(self, icd10: frozenset[str], suspected: bool) -> Iterator[Disease]:
        """The diseases of the claim that are under one of the codes."""
        for disease, prefixes in self.diseases:
            if disease.suspected == suspected and not prefixes.isdisjoint(icd10):
                yield disease

    def name(self, item: Item) -> str:
        return _folded(self.tables.item_name(item))

    def disease_name(self, disease: Disease) -> str:
        return fold(self.tables.disease_name(disease))

    def found(
        self,
        rule: Rule,
        line: Item | Disease,
        text: str,
        *,
        row: str = "",
        reference: str = "",
        severity: Severity = Severity.ERROR,
        others: tuple[int, ...] = (),
    ) -> Finding:
        """Without a row the rule itself is cited. A comment that stands beside an item silences nothing, but is told."""
        name = self.name(line) if isinstance(line, Item) else self.disease_name(line)
        said = isinstance(line, Item) and (line.group in self._commented or bool(line.comments))
        return Finding(
            rule=rule,
            line=line.line,
            others=others,
            severity=severity,
            text=f"{name}: {text}" + "（コメントあり）" * said,
            reference=reference or RULES[rule],
            row=row or f"rule:{rule.value}",
        )

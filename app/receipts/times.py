"""Checks of how often and when: limits, what excludes what, drugs given twice, times against days, days without a visit."""

from collections.abc import Iterator

from app.receipts.facts import Facts
from app.receipts.tables import Exclusion, Limit
from app.receipts.uke import Item
from schemas.issue import Severity
from schemas.receipt import Finding, Rule

_WITHIN = {"day": "1日", "week": "1週", "month": "1月", "claim": "1レセプト"}
_SAME = {"day": "同じ日", "week": "同じ週", "month": "同じ月"}
# 内服, 屯服, 外用. An infusion may well run twice on one day.
_PRESCRIBED = ("21", "22", "23")


def time_findings(facts: Facts) -> Iterator[Finding]:
    """In no order."""
    limits, duplicates = facts.tables.limits, facts.tables.duplicates
    for code, items in facts.of_code.items():
        for limit in limits.get(code, ()):
            yield from _over(facts, code, items, limit)
        for exclusion in duplicates.get(code, ()):
            if others := facts.of_code.get(exclusion.b):
                yield from _both(facts, exclusion, items, others)
    yield from _twice(facts)
    yield from _counts(facts)
    yield from _visits(facts)


def _counted(item: Item) -> int:
    return sum(item.days.values()) or (1 if item.times is None else item.times)


def _over(facts: Facts, code: str, items: list[Item], limit: Limit) -> Iterator[Finding]:
    """Over all lines of the code together; told at the line that goes beyond. Without days nothing is said of days and weeks."""
    spans: dict[int, list[tuple[Item, int]]] = {}
    for item in items:
        if limit.per in ("month", "claim"):
            spans.setdefault(0, []).append((item, _counted(item)))
            continue
        for day, count in item.days.items():
            span = day if limit.per == "day" else facts.week_of(day)
            if span is not None:
                spans.setdefault(span, []).append((item, count))
    over = [span for span in sorted(spans) if sum(count for _, count in spans[span]) > limit.most]
    if not over:
        return
    counted = spans[over[0]]
    at, total = counted[0][0], 0
    for item, count in counted:
        total += count
        if total - count <= limit.most < total:
            at = item
    where = {"day": f"{over[0]}日に", "week": f"第{over[0] + 1}週に"}.get(limit.per, "")
    more = f"、ほか{len(over) - 1}か所" if len(over) > 1 else ""
    yield facts.found(
        Rule.LIMIT,
        at,
        f"{where}{total}回（{_WITHIN[limit.per]}{limit.most}回まで）{more}",
        row=f"limits:{code}",
        reference=limit.reference,
        others=tuple(sorted({item.line for span in over for item, _ in spans[span]} - {at.line})),
    )


def _both(facts: Facts, exclusion: Exclusion, ones: list[Item], others: list[Item]) -> Iterator[Finding]:
    def spans(item: Item) -> set[int]:
        if exclusion.per == "month":
            return {0}
        if exclusion.per == "day":
            return set(item.days)
        return {week for day in item.days if (week := facts.week_of(day)) is not None}

    for one in ones:
        within = spans(one)
        for other in others:
            if within & spans(other):
                earlier, later = sorted((one, other), key=lambda item: item.line)
                yield facts.found(
                    Rule.DUPLICATE,
                    later,
                    f"{facts.name(earlier)}と{_SAME[exclusion.per]}には算定できない",
                    row=f"duplicates:{exclusion.a}-{exclusion.b}",
                    reference=exclusion.reference,
                    others=(earlier.line,),
                )
                return


def _twice(facts: Facts) -> Iterator[Finding]:
    """The same ingredient in two 剤 of one section on one day. Two strengths of one drug within a 剤 are a dose."""
    seen: dict[tuple[str, str], list[Item]] = {}
    for item in facts.items:
        if item.kind != "IY" or item.section not in _PRESCRIBED or item.code not in facts.tables.drugs:
            continue
        earlier = seen.setdefault((item.section, facts.tables.subject(item)), [])
        for other in earlier:
            if other.group != item.group and not item.days.keys().isdisjoint(other.days):
                same = "同じ薬" if other.code == item.code else f"同じ成分の{facts.name(other)}"
                yield facts.found(
                    Rule.DUPLICATE, item, f"{same}が同じ日の別の剤にある", severity=Severity.WARNING, others=(other.line,)
                )
                break
        earlier.append(item)


def _counts(facts: Facts) -> Iterator[Finding]:
    for item in facts.items:
        if item.days and item.times is not None and item.times != (days := sum(item.days.values())):
            yield facts.found(Rule.COUNT, item, f"回数{item.times}と算定日の合計{days}が合わない")


def _visits(facts: Facts) -> Iterator[Finding]:
    visits = {
        day
        for record in facts.claim.records
        if record.kind == "JD"
        for day in range(1, 32)
        if record.values[f"day_{day}"]
    }
    if not visits:
        return
    for item in facts.items:
        if beyond := sorted(item.days.keys() - visits):
            days = "、".join(f"{day}日" for day in beyond)
            yield facts.found(Rule.VISIT_DAY, item, f"{days}は受診日等にない", severity=Severity.INFORMATION)

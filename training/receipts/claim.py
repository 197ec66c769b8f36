"""A story as a claim: the records of `app.receipts.layout`, and at which line each of its parts stands."""

import random
from decimal import ROUND_HALF_DOWN, Decimal

from app.receipts.tables import UNCODED
from app.receipts.uke import Claim, Record
from training.receipts.catalog import section
from training.receipts.story import Problem, Service, Story, Supply
from training.receipts.words import plain_disease

FREE_TEXT = "810000001"
_SIDES = {"右": "2056", "左": "2049", "両": "2057"}
_SUSPECTED = "8002"
_WIDE = str.maketrans("0123456789", "０１２３４５６７８９")
_DRUG_SECTIONS = {"oral": "21", "needed": "22", "outside": "23", "injected": "31"}


class _Writer:
    def __init__(self, story: Story) -> None:
        self.story = story
        self.records: list[Record] = []

    def add(self, *fields: str) -> int:
        line = self.story.first_line + len(self.records)
        self.records.append(Record(line, fields))
        return line

    def item(self, kind: str, head: tuple[str, ...], days: dict[int, int], comment: str = "") -> int:
        beside = [FREE_TEXT, comment] if comment else ["", ""]
        cells = [str(days[day]) if day in days else "" for day in range(1, 32)]
        return self.add(kind, *head, *beside, "", "", "", "", *cells)


def write_claim(rng: random.Random, story: Story) -> Claim:
    """The claim; the parts of the story learn their lines. The random source decides on matters of form alone."""
    out = _Writer(story)
    days = [visit.day for visit in story.visits]
    kind = "1118" if story.age() >= 75 and rng.random() < 0.5 else rng.choice(("1112", "1112", "1114"))
    head = [
        str(story.number),
        kind,
        f"{story.month:%Y%m}",
        story.name,
        "2" if story.female else "1",
        f"{story.birth:%Y%m%d}",
    ]
    out.add("RE", *head, *[""] * 6, story.chart_number, *[""] * 22, story.kana, "")
    out.add("HO", "06131000", "見本", str(story.number), str(len(days)), "", *[""] * 9)
    if rng.random() < 0.5:
        out.add("SN", "1", "01", "", "", "", "00")
    if rng.random() < 0.5:
        out.add("JD", "1", *["1" if day in days else "" for day in range(1, 32)])
    for problem in story.claimed_problems:
        problem.line = _disease(out, problem)
    supplies = list(story.claimed_supplies)
    blocks: list[tuple[str, int, list[Service | Supply]]] = []
    for service in story.claimed_services:
        blocks.append((section(service.row), len(blocks), [service]))
    for group in dict.fromkeys((supply.visit, supply.form, supply.group) for supply in supplies):
        of_group: list[Service | Supply] = [
            supply for supply in supplies if (supply.visit, supply.form, supply.group) == group
        ]
        blocks.append((_DRUG_SECTIONS[group[1]], len(blocks), of_group))
    # Injections: the act stands before the drug, in one 剤 of its own each.
    for number, _, parts in sorted(blocks, key=lambda block: (block[0], block[1])):
        ahead = rng.random() < 0.3
        text = next((part.comment for part in parts if part.comment), "")
        inside = bool(text) and len(parts) == 1 and not ahead and rng.random() < 0.2
        if text and ahead:
            out.add("CO", number, "1", FREE_TEXT, text.translate(_WIDE))
        for n, part in enumerate(parts):
            written = "" if n or (text and ahead) else number
            last = n == len(parts) - 1
            beside = text.translate(_WIDE) if inside else ""
            part.line = (
                _service(out, part, written, beside)
                if isinstance(part, Service)
                else _supply(out, part, written, beside, last)
            )
        if text and not ahead and not inside:
            out.add("CO", "", "1", FREE_TEXT, text.translate(_WIDE))
    return Claim(tuple(out.records))


def _disease(out: _Writer, problem: Problem) -> int:
    modifiers = _SIDES.get(problem.claimed_side, "") + (_SUSPECTED if problem.claimed == "suspected" else "")
    since = f"{problem.since:%Y%m%d}"
    main = "01" if problem.main else ""
    if problem.claimed == "uncoded":
        return out.add("SY", UNCODED, since, "1", "", problem.claimed_side + plain_disease(problem.row), main, "")
    return out.add("SY", problem.row.code, since, "1", modifiers, "", main, "")


def _service(out: _Writer, service: Service, number: str, comment: str) -> int:
    days = {out.story.visits[visit].day: count for visit, count in service.times.items()}
    times = service.counted or sum(days.values())
    amount = "" if service.amount is None else str(service.amount)
    return out.item(
        "SI",
        (number, "1", service.row.code, amount, str(service.row.points * (service.amount or 1)), str(times)),
        days,
        comment,
    )


def _supply(out: _Writer, supply: Supply, number: str, comment: str, last: bool) -> int:
    assert supply.product is not None
    day = out.story.visits[supply.visit].day
    times = supply.claimed_days if supply.form in ("oral", "needed") else 1
    counted = supply.counted if supply.counted is not None else times
    # 薬価の点数: ten yen a point, five tenths are dropped.
    points = max(1, int((supply.product.price * supply.amount / 10).to_integral_value(ROUND_HALF_DOWN)))
    shown = str(points) if last else ""
    return out.item(
        "IY", (number, "1", supply.product.code, f"{supply.amount:f}", shown, str(times)), {day: counted}, comment
    )


def points_of(claim: Claim) -> Decimal:
    """Points of the lines that say theirs, times their counts."""
    return Decimal(sum((item.points or 0) * (item.times or 1) for item in claim.items))

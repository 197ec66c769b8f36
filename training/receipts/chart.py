"""A story as the notes of its visits, with the statements that a reader finds in them.

Every thing that the chart says is a piece: one clause with its facts. A layout puts the pieces of a visit together, line by
line or in prose; a piece never spans two lines. `Chart.proof` tells where the story's parts are spoken of.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.normalize.dosage import parse_dosage
from app.receipts.chart import Entry
from app.receipts.tables import Tables, fold
from schemas import systems
from schemas.coding import Coding
from schemas.record import Record
from schemas.statement import Action, Assertion, EvidenceSpan, Field, Kind, Statement
from training.receipts.pages import Fact, Piece, laid_out
from training.receipts.phrases import (
    ACT,
    DISEASE,
    NUMBERS,
    OBJECTIVE,
    PLANS,
    REASONS,
    RELATIVES,
    SUBJECTIVE,
    SUPPLY,
    VALUES,
    WEIGHED,
    chosen,
    frames,
)  # fmt: skip
from training.receipts.story import Problem, Service, Story, Supply, Weighing
from training.receipts.words import act_words, chart_act, chart_disease, drug_stems, half_width, parts

LONGEST = 60
"""Characters of evidence."""
ELSEWHEN = 0.2
"""Share of the acts that were done of which the chart also says something about another time."""
_FEES = ("111", "112", "113", "12", "16006")
"""Acts that no plan speaks of: consultation, dispensing, judgement of tests."""
_SLOT = re.compile(r"\{([^{}]+)\}")
_ASSERTIONS = {
    "present": Assertion.PRESENT, "confirmed": Assertion.PRESENT, "suspected": Assertion.SUSPECTED, "workup": Assertion.SUSPECTED,
    "steady": Assertion.PRESENT, "denied": Assertion.ABSENT, "past": Assertion.PAST, "family": Assertion.FAMILY,
}  # fmt: skip
_ACTIONS = {
    "stopped": Action.STOP,
    "elsewhere": Action.CONTINUE,
    "planned": Action.PLAN,
    "raised": Action.PLAN,
    "kept": Action.CONTINUE,
    "past": Action.HISTORY,
}
_GIVEN = ("given", "raised", "kept")


@dataclass(frozen=True)
class Chart:
    """`proof`: part of the story (by identity) to note, start and end of the clause that speaks of it."""

    entries: tuple[Entry, ...]
    proof: Mapping[int, tuple[str, int, int]]


def write_chart(rng: random.Random, story: Story, held_out: bool, overlooked: float) -> Chart:
    """The notes; `overlooked`: share of the statements that the reader does not see."""
    entries = []
    proof: dict[int, tuple[str, int, int]] = {}
    prefix = f"N{rng.randrange(10**6):06}"
    pieces = _spoken(rng, story, held_out)
    for number, day in enumerate(story.visits):
        note_id = f"{prefix}-{number + 1}"
        text, placed = laid_out(rng, pieces[number], day)
        records = []
        for piece, at in placed:
            for about in piece.about:
                proof.setdefault(id(about), (note_id, at, at + min(len(piece.text), LONGEST)))
            records += [_record(text, at, fact) for fact in piece.facts if rng.random() >= overlooked]
        records.sort(key=lambda record: record.statement.start)
        entries.append(Entry(note_id, day, text, tuple(records)))
    return Chart(tuple(entries), proof)


def _record(text: str, at: int, fact: Fact) -> Record:
    fields = {
        name: EvidenceSpan(start=at + start, end=at + end, quote=text[at + start : at + end])
        for name, (start, end) in fact.spans.items()
    }
    statement = Statement(kind=fact.kind, fields=fields, assertion=fact.assertion, action=fact.action)
    dosage = None
    if fact.kind is Kind.PRESCRIPTION:
        written = {name: span.quote for name, span in fields.items()}
        dosage = parse_dosage(
            written[Field.NAME], written.get(Field.DOSE), written.get(Field.USAGE), written.get(Field.DAYS)
        )
    return Record(statement=statement, display=fact.display, codings=fact.codings, dosage=dosage)


def fill(frame: str, slots: Mapping[str, str]) -> tuple[str, dict[str, tuple[int, int]]]:
    """The frame with its slots filled, and where each stands."""
    text, spans, last = "", {}, 0
    for match in _SLOT.finditer(frame):
        text += frame[last : match.start()]
        spans[match[1]] = (len(text), len(text) + len(slots[match[1]]))
        text += slots[match[1]]
        last = match.end()
    return text + frame[last:], spans


def _ranges(rng: random.Random, frame: str) -> str:
    def number(match: re.Match[str]) -> str:
        low, high = match[1].split("-")
        decimals = len(low.partition(".")[2])
        return f"{rng.uniform(float(low), float(high)):.{decimals}f}"

    return _SLOT.sub(number, chosen(rng, frame))


class _Hand:
    """One writer's habits."""

    def __init__(self, rng: random.Random, held_out: bool) -> None:
        self.rng = rng
        self.held_out = held_out
        self.half = rng.random() < 0.06
        self.strength = rng.choice((0.35, 0.7, 0.95))
        self.dose = rng.choice(("tablets", "latin", "intakes", "brackets", "mixed", "mixed"))
        self.known: dict[int, str] = {}

    def frame(self, pool: Sequence[str]) -> str:
        return chosen(self.rng, frames(self.rng, pool, self.held_out))

    def drug(self, supply: Supply) -> str:
        stem = self.rng.choice(drug_stems(supply.named)) if self.rng.random() < 0.45 else drug_stems(supply.named)[0]
        stem = half_width(stem) if self.half else stem
        _, form, strength = parts(supply.named.name)
        strength = supply.strength or strength
        must = bool(supply.strength)
        shown = bool(strength) and (must or (not strength.endswith("%") and self.rng.random() < self.strength))
        form = form if self.rng.random() < 0.35 else ""
        if not shown:
            return stem + form
        return self.rng.choice(
            (
                f"{stem}{form}{strength}",
                f"{stem}{form}{strength}",
                f"{stem}{form}({strength})",
                f"{stem}{form} {strength}",
            )
        )


def _spoken(rng: random.Random, story: Story, held_out: bool) -> list[list[Piece]]:
    """The pieces of each visit."""
    hand = _Hand(rng, held_out)
    visits: list[list[Piece]] = [[] for _ in story.visits]
    for problem in story.problems:
        if problem.said == "unsaid":
            continue
        home = len(visits) - 1 if problem.said in ("denied", "confirmed") else rng.randrange(len(visits))
        for number, pieces in enumerate(visits):
            if number == home or (problem.said == "present" and rng.random() < 0.4):
                pieces.append(_problem(hand, problem))
    for supply in story.supplies:
        if supply.said != "unsaid":
            visits[supply.visit] += _supply(hand, supply)
    for service in story.services:
        if service.said != "unsaid" and act_words(service.row):
            for n, visit in enumerate(service.visits):
                visits[visit].append(
                    _service(hand, service, "repeated" if n and service.said in ("done", "repeated") else service.said)
                )
        # What was done is spoken of for the next time, too, or of the last: neither says that it was not done now.
        done = service.times and service.said in ("done", "unsaid", "resumed") and act_words(service.row)
        if done and not service.row.code.startswith(_FEES) and rng.random() < ELSEWHEN:
            piece = _service(hand, service, rng.choice(("next", "next", "past")))
            visits[service.visits[-1]].append(Piece(piece.text, piece.part, piece.facts))
    for weighing in story.weighings:
        visits[weighing.supply.visit].append(_weighing(hand, weighing))
    for pieces in visits:
        pieces += [Piece(_ranges(rng, frame), "S") for frame in rng.sample(SUBJECTIVE, rng.randint(1, 4))]
        pieces += [Piece(_ranges(rng, frame), "O") for frame in rng.sample(OBJECTIVE, rng.randint(1, 4))]
        pieces += [Piece(_ranges(rng, frame), "P") for frame in rng.sample(PLANS, rng.randint(0, 3))]
    return visits


def _problem(hand: _Hand, problem: Problem) -> Piece:
    rng = hand.rng
    name = chart_disease(rng, problem.row)
    side = problem.side
    if side:
        side = rng.choice(
            {"右": ("右", "右", "右側", "rt."), "左": ("左", "左", "左側", "lt."), "両": ("両", "両側", "両")}[side]
        )
    frame = hand.frame(DISEASE[problem.said])
    text, spans = fill(
        frame, {"d": (half_width(name) if hand.half and rng.random() < 0.3 else name), "r": rng.choice(RELATIVES)}
    )
    start, end = spans["d"]
    if side:
        if rng.random() < 0.75 or side in ("rt.", "lt."):
            text, end = text[:start] + side + text[start:], end + len(side)
        else:
            added = f"（{side}）"
            text = text[:end] + added + text[end:]
    if problem.side in ("右", "左") and rng.random() < 0.12:
        text += rng.choice(("、{}は異常なし", "、{}は症状なし", "（{}は問題なし）")).format(
            "左" if problem.side == "右" else "右"
        )
    fields = {Field.NAME: (start, end)}
    if problem.said == "family" and "r" in spans and spans["r"][1] <= start:
        fields[Field.RELATIVE] = spans["r"]
    fact = Fact(Kind.CONDITION, fields, fold(problem.row.name), disease_codings(problem), _ASSERTIONS[problem.said])
    part = "S" if problem.said in ("past", "family") and rng.random() < 0.7 else "A"
    return Piece(text, part, [fact], [problem])


def disease_codings(problem: Problem) -> tuple[Coding, ...]:
    row = problem.row
    name = fold(row.name)
    return (
        Coding(system=systems.RECEIPT_DISEASE, code=row.code, display=name),
        Coding(system=systems.ICD10, code=row.icd10, display=name),
    )


def drug_codings(rng: random.Random, supply: Supply, name: str) -> tuple[Coding, ...]:
    """What coding gives for the written name: the product of the written strength, if the tables have it; without a strength
    often none."""
    drug, own = supply.named, parts(supply.named.name)
    if supply.strength and supply.strength != own[2]:
        same = (other for other in Tables.starter().drugs.values() if other.ingredient == drug.ingredient)
        found = next((other for other in same if parts(other.name)[2] == supply.strength), None)
        if found is None:
            return ()
        drug = found
    elif not re.search(r"\d", name) and rng.random() < 0.5:
        return ()
    return (Coding(system=systems.YJ, code=drug.yj, display=fold(drug.name)),)


def _prescription(hand: _Hand, supply: Supply, name: str, spans: dict[Field, tuple[int, int]], action: Action) -> Fact:
    return Fact(Kind.PRESCRIPTION, spans, name, drug_codings(hand.rng, supply, name), action=action)


def _supply(hand: _Hand, supply: Supply) -> list[Piece]:
    rng = hand.rng
    pieces = []
    if supply.said in _GIVEN:
        pieces.append(_given(hand, supply))
    if supply.said != "given":
        name = hand.drug(supply)
        value = parts(supply.named.name)[2]
        number = re.match(r"[\d.]+", value)
        other = f"{(Decimal(number[0]) * 2).normalize():f}{value[number.end() :]}" if number else "倍量"
        frame = hand.frame(SUPPLY[supply.said])
        text, spans = fill(frame, {"n": name, "w": rng.choice(REASONS["stop"]), "s": other})
        fact = _prescription(hand, supply, name, {Field.NAME: spans["n"]}, _ACTIONS[supply.said])
        pieces.append(
            Piece(
                text,
                "P" if supply.said not in ("past", "elsewhere") else "S",
                [fact],
                [] if supply.said in _GIVEN else [supply],
            )
        )
    return pieces


def _written_days(rng: random.Random, days: int) -> str:
    forms = [f"{days}日分"] * 5 + [
        f"{days}TD",
        f"{days}日",
        f"x{days}TD",
        f"×{days}日分",
        f"{days}days",
        f"({days}日分)",
        f"{days}T.D.",
    ]
    if days % 7 == 0:
        weeks = days // 7
        forms += [f"{weeks}週間分", f"{weeks}週分", f"{weeks}週間分", f"{weeks}W分", f"{weeks}週"]
    return rng.choice(forms)


def _dose(hand: _Hand, supply: Supply) -> tuple[str, str]:
    """Amount and usage as they stand side by side."""
    rng = hand.rng
    unit = fold(supply.named.unit)
    per_day, each = supply.amount, supply.amount / supply.intakes
    style = hand.dose if hand.dose != "mixed" else rng.choice(("tablets", "latin", "intakes", "brackets"))
    short = {"錠": "T", "カプセル": "C"}.get(unit, unit)
    if supply.form == "needed":
        return rng.choice((f"1回1{unit}", f"1{short}", f"1回1{short}")), rng.choice((supply.usage, f"{supply.usage}"))
    if supply.form == "outside":
        return f"{per_day:f}{unit}", supply.usage
    if supply.form == "injected":
        return f"1{unit}", rng.choice(("筋注", "静注", "注射")) if supply.named.ingredient != "3999408" else "関節内"
    if style == "latin":
        return f"{per_day:f}{short}", rng.choice(
            {1: ("1x", "分1", "1xM", "1xv.d.S."), 2: ("2x", "分2", "2xMA"), 3: ("3x", "分3", "3xN", "3xn.d.E.")}[
                supply.intakes
            ]
        )
    if style == "intakes" and each == each.to_integral_value():
        return f"1回{each:f}{unit}", f"1日{supply.intakes}回{supply.usage}"
    if style == "brackets":
        return f"({per_day:f})", f"分{supply.intakes}{rng.choice(('', supply.usage))}"
    return f"{per_day:f}{unit}", rng.choice(
        (
            f"分{supply.intakes} {supply.usage}",
            f"分{supply.intakes}",
            f"1日{supply.intakes}回 {supply.usage}",
            supply.usage,
        )
    )


def _given(hand: _Hand, supply: Supply) -> Piece:
    rng = hand.rng
    name = hand.drug(supply)
    dose, usage = _dose(hand, supply)
    must = supply.claimed_days != supply.days or supply.counted is not None
    if supply.form == "oral":
        days = _written_days(rng, supply.days) if must or rng.random() < 0.88 else ""
    else:
        days = f"{supply.days}回分" if supply.form == "needed" else ""
    frame = rng.choice(
        ("{n} {q} {u} {t}",) * 5 + ("{n} {q}{u} {t}", "{n}{q}/{u} {t}", "{n}　{q}　{u}　{t}", "{n} {q} {u}、{t}")
    )
    action = Action.PRESCRIBE
    if days and rng.random() < 0.25:
        frame = rng.choice(
            (
                "{n}を{t}処方",
                "{n} {t}",
                "{n} {q} {t}",
                "{n}を{t}",
                "{n}継続 {t}",
                "{n} do {t}",
                "{n} {t}処方",
                "前回同様{n} {t}",
                "{n}（{u}）{t}",
            )
        )
        action = Action.CONTINUE if "継続" in frame or "do" in frame or "同様" in frame else action
    elif not days and rng.random() < 0.3:
        frame = rng.choice(("{n}継続", "{n} do", "{n}処方", "{n}を処方", "{n} {q} {u}", "{n}同量"))
        action = Action.CONTINUE if "処方" not in frame else action
    if days and supply.form == "oral" and rng.random() < 0.07:
        frame = rng.choice(("{n} 前回{o}→今回{t}", "{n} {t}（前回{o}）", "{n}：前回{o}、今回は{t}"))
    slots = {"n": name, "q": dose, "u": usage, "t": days, "o": f"{rng.choice((7, 14, 28, 30, 56))}日分"}
    text, spans = fill(frame, slots)
    kept = text.rstrip(" 　、")
    fields = {Field.NAME: spans["n"]}
    for key, slot in ((Field.DOSE, "q"), (Field.USAGE, "u"), (Field.DAYS, "t")):
        if slot in spans and spans[slot][0] < spans[slot][1] <= len(kept):
            fields[key] = spans[slot]
    return Piece(
        kept, "R" if rng.random() < 0.85 else "P", [_prescription(hand, supply, name, fields, action)], [supply]
    )


def _service(hand: _Hand, service: Service, said: str) -> Piece:
    rng = hand.rng
    name = chart_act(rng, service.row)
    value = rng.choice(VALUES)
    fact: list[Fact] = []
    shown = NUMBERS.get(name)
    if shown and said in ("done", "repeated", "past", "elsewhere") and rng.random() < 0.75:
        low, high, decimals, unit = shown
        number = f"{rng.uniform(low, high):.{decimals}f}"
        if said == "done" and rng.random() < 0.7:
            text, spans = fill(
                rng.choice(("{a} {x}{y}", "{a}：{x}{y}", "{a}{x}{y}", "{a} {x}", "採血：{a} {x}{y}", "{a}={x}")),
                {"a": name, "x": number, "y": unit},
            )
            fields = {Field.NAME: spans["a"], Field.VALUE: spans["x"]}
            return Piece(text, "O", [Fact(Kind.LAB, fields, name)], [service])
        value = number + unit
    why = rng.choice(REASONS["again" if said == "repeated" else "put_off"])
    text, spans = fill(hand.frame(ACT[said]), {"a": name, "v": value, "w": why})
    part = {"done": "O", "repeated": "O", "resumed": "O", "planned": "P", "next": "P", "elsewhere": "S", "past": "O"}.get(
        said, "P" if rng.random() < 0.6 else "O"
    )
    return Piece(text, part, fact, [service])


def _weighing(hand: _Hand, weighing: Weighing) -> Piece:
    name = hand.drug(weighing.supply)
    disease = chart_disease(hand.rng, weighing.problem.row)
    text, spans = fill(hand.frame(WEIGHED), {"d": disease, "n": name})
    condition = Fact(
        Kind.CONDITION, {Field.NAME: spans["d"]}, fold(weighing.problem.row.name), disease_codings(weighing.problem)
    )
    facts = [condition, _prescription(hand, weighing.supply, name, {Field.NAME: spans["n"]}, Action.CONTINUE)]
    return Piece(text, hand.rng.choice("AP"), facts, [weighing])

"""What happened, what the chart says of it, and what the claim says of it: one value for all three.

A clean claim and its chart agree in every problem, supply and service; a fault is a place where they do not. The chart is
written from the chart's side alone and the claim from the claim's side alone, so that neither shows by its form whether
something was planted.
"""

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from app.receipts.tables import Act, DiseaseRow, Drug


@dataclass(eq=False)
class Problem:
    """`said`: in the chart: present, steady (present, nothing new), suspected, workup (suspected, to be examined), confirmed, denied, past, family or
    unsaid. `claimed`: certain, suspected, uncoded or none. `side`: 右, 左, 両 or none, `claimed_side` that of the claim."""

    row: DiseaseRow
    said: str
    claimed: str
    since: date
    side: str = ""
    claimed_side: str = ""
    main: bool = False
    line: int = 0


@dataclass(eq=False)
class Supply:
    """A drug. `said`: given, stopped, elsewhere, planned, raised (given, another dose from the next time), kept
    (given, the stopping of it spoken of) or unsaid. `form`:
    oral, needed (頓用), outside or injected. `strength`: as the chart writes it, blank: that of the product. `days`: of the
    chart, or how many (doses, pieces); `claimed_days` of the claim, `counted` where the days of the month tell another number.
    `product` None: nothing is claimed; `named`: the product that the chart names."""

    named: Drug
    product: Drug | None
    said: str
    visit: int
    form: str
    amount: Decimal
    intakes: int
    days: int
    claimed_days: int
    usage: str
    counted: int | None = None
    strength: str = ""
    comment: str = ""
    group: int = 0
    line: int = 0


@dataclass(eq=False)
class Service:
    """An act. `said`: done, repeated, resumed (postponed before, done now), postponed, elsewhere, planned or unsaid.
    `visits`: of the chart; `times`: what is claimed, by visit; empty: nothing."""

    row: Act
    said: str
    visits: tuple[int, ...]
    times: dict[int, int]
    section: str
    amount: int | None = None
    comment: str = ""
    counted: int | None = None
    line: int = 0


@dataclass(eq=False)
class Weighing:
    """The chart weighs a drug against a disease."""

    problem: Problem
    supply: Supply


@dataclass
class Story:
    """`visits`: days of the month, each with a note. `inside`: drugs are given by the clinic itself."""

    female: bool
    birth: date
    month: date
    visits: tuple[date, ...]
    name: str
    kana: str
    chart_number: str
    number: int
    first_line: int
    problems: list[Problem] = field(default_factory=list)
    supplies: list[Supply] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    weighings: list[Weighing] = field(default_factory=list)

    def age(self) -> int:
        last = self.visits[-1]
        return last.year - self.birth.year - ((last.month, last.day) < (self.birth.month, self.birth.day))

    @property
    def claimed_problems(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.claimed != "none"]

    @property
    def claimed_supplies(self) -> list[Supply]:
        return [supply for supply in self.supplies if supply.product is not None]

    @property
    def claimed_services(self) -> list[Service]:
        return [service for service in self.services if service.times]

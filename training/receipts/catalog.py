"""The starter's tables as a clinic uses them: which drugs and acts go with a disease, and with whom."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import cache, cached_property

from app.receipts.tables import UNCODED, Act, DiseaseRow, Drug, People, Tables
from training.receipts.words import act_words, parts

_CHILD = tuple(
    "J0 J1 J20 J21 J30 J45 H10 H65 H66 L01 L20 L22 L23 L29 L30 L50 R05 R50 R56 A08 A09 A37 A49 B01 K52 K59 G40".split()
)
_OLD = tuple("F00 F01 F03 G30 G31 M17 M16 M48 M80 M81 I50 I48 I25 N40 I69 I63 I70 H25 H40 J43 J44 G20 C61".split())
_ADULT_LIMITS = {
    "N95": (44, 60),
    "O": (19, 42),
    "N94": (16, 45),
    "N80": (20, 48),
    "L70": (13, 35),
    "F90": (8, 40),
    "J459": (3, 90),
    "N97": (22, 42),
    "P": (0, 0),
}
_NOT_IN_CLINIC = tuple(
    (
        "輸液 点滴 静注 皮下注 注ミリ 注ソロ 注カート フレックス "
        "注射用水 注射液１００ｍｇ 注１００ｍｇ モビプレップ ミドリン 注２ｍ 注２０ｍｇ 注射液１０ｍｇ"
    ).split()
)
_SIDED = frozenset("M16 M17 M75 M77 H10 H16 H25 H26 H40 H65 H66 G56 S52 S72 H20 M65 H91 H00 H11 G57 M54".split())
_WEEKLY = ("アクトネル", "アレンドロン", "ボノテオ", "ザファテック", "マリゼブ", "リウマトレックス", "注")
_OUTSIDE = tuple(
    "テープ 軟膏 クリーム ゲル 点眼 点鼻 坐剤 サポ 吸入 腟錠 レスピマット プロペト エリプタ タービュヘイラー".split()
)
_CHILDREN_FORMS = ("小児", "ＤＳ", "ドライシロップ", "細粒", "シロップ")
NEURO = "3136403"
_SECTIONS = (
    ("111", "11"),
    ("112", "12"),
    ("113", "13"),
    ("114", "14"),
    ("130", "31"),
    ("140", "40"),
    ("160", "60"),
    ("170", "70"),
    ("180", "80"),
    ("120", "80"),
)


class Catalog:
    """The starter's tables, and which of their rows go together."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._treating: dict[str, tuple[Drug, ...]] = {}
        self._testing: dict[str, tuple[Act, ...]] = {}
        self.by_ingredient: dict[str, list[Drug]] = {}
        for drug in tables.drugs.values():
            self.by_ingredient.setdefault(drug.ingredient, []).append(drug)

    def fits(self, subject: str, icd10: Iterable[str]) -> bool:
        """Is there a reason for it among these diseases? What has no row needs none."""
        row = self.tables.indications.get(subject)
        return row is None or any(_under(code, row.icd10) for code in icd10)

    def clashes(self, ingredient: str, icd10: str) -> bool:
        row = self.tables.contraindications.get(ingredient)
        return row is not None and _under(icd10, row.icd10)

    def for_person(self, subject: str, female: bool, age: int) -> bool:
        row = self.tables.people.get(subject)
        return row is None or _suits(row, female, age)

    def disease_suits(self, row: DiseaseRow, female: bool, age: int) -> bool:
        for length in range(1, len(row.icd10) + 1):
            people = self.tables.people.get(row.icd10[:length])
            if people and people.kind == "icd10" and not _suits(people, female, age):
                return False
        for prefix, (low, high) in _ADULT_LIMITS.items():
            if row.icd10.startswith(prefix) and not low <= age <= high:
                return False
        if age < 12:
            return row.icd10.startswith(_CHILD) and row.code not in ("8840399",)
        if row.icd10.startswith(_OLD):
            return age >= 50
        return "小児" not in row.name and "おむつ" not in row.name

    @cached_property
    def diseases(self) -> list[DiseaseRow]:
        return [row for row in self.tables.diseases.values() if row.code != UNCODED and row.icd10]

    @cached_property
    def clinic_drugs(self) -> list[Drug]:
        return [
            drug
            for drug in self.tables.drugs.values()
            if drug.yj and not any(word in drug.name for word in _NOT_IN_CLINIC) and not _weekly(drug)
        ]

    @cached_property
    def named_acts(self) -> list[Act]:
        return [act for act in self.tables.acts.values() if act_words(act)]

    def treating(self, code: str) -> tuple[Drug, ...]:
        """Drugs of a clinic whose indications name the disease."""
        if code not in self._treating:
            self._treating[code] = self._treat(code)
        return self._treating[code]

    def _treat(self, code: str) -> tuple[Drug, ...]:
        icd10 = self.tables.diseases[code].icd10
        known = self.tables.indications
        return tuple(d for d in self.clinic_drugs if d.ingredient in known and _under(icd10, known[d.ingredient].icd10))

    def testing(self, code: str) -> tuple[Act, ...]:
        """Acts whose indications name the disease and that charts have a word for."""
        if code not in self._testing:
            self._testing[code] = self._test(code)
        return self._testing[code]

    def _test(self, code: str) -> tuple[Act, ...]:
        icd10 = self.tables.diseases[code].icd10
        known = self.tables.indications
        return tuple(act for act in self.named_acts if act.code in known and _under(icd10, known[act.code].icd10))

    def excludes(self, code: str, others: Iterable[str]) -> bool:
        """Does another act forbid this one? Taken for any day of the month."""
        return any(frozenset((code, other)) in self._pairs for other in others)

    @cached_property
    def _pairs(self) -> set[frozenset[str]]:
        return {frozenset((row.a, row.b)) for rows in self.tables.duplicates.values() for row in rows}

    def most(self, code: str) -> int | None:
        """How often at most in a month; None: not limited by the month."""
        return min(
            (row.most for row in self.tables.limits.get(code, ()) if row.per in ("month", "claim", "week")),
            default=None,
        )


def _weekly(drug: Drug) -> bool:
    return any(word in drug.name for word in _WEEKLY) and drug.ingredient not in (NEURO, "3999408")


def _under(icd10: str, prefixes: Iterable[str]) -> bool:
    return any(icd10.startswith(prefix) for prefix in prefixes)


def _suits(row: People, female: bool, age: int) -> bool:
    if row.sex and (row.sex == "female") != female:
        return False
    return (row.min_age is None or age >= row.min_age) and (row.max_age is None or age <= row.max_age)


@cache
def catalog() -> Catalog:
    return Catalog(Tables.starter())


def section(act: Act) -> str:
    """診療識別 of an act."""
    if act.code in ("120001210", "120003610"):
        return "25"
    if act.code in ("120000710", "120001010"):
        return "24"
    if act.code == "120001810":
        return "27"
    return next(number for prefix, number in _SECTIONS if act.code.startswith(prefix))


def form_of(drug: Drug) -> str:
    if drug.ingredient in (NEURO, "3919502", "3999408"):
        return "injected"
    return "outside" if any(word in drug.name for word in _OUTSIDE) else "oral"


def suits_age(drug: Drug, age: int) -> bool:
    childish = any(word in drug.name for word in _CHILDREN_FORMS) or "坐剤小児" in drug.name
    if age < 7:
        return childish or form_of(drug) == "outside" or "坐剤" in drug.name
    return not childish or age < 12


def sided(row: DiseaseRow) -> bool:
    """Has the disease a right and a left?"""
    return row.icd10[:3] in _SIDED and row.code not in ("8840829", "8832458", "7245015")


def strengths(drug: Drug, known: Catalog) -> Sequence[str]:
    """Other strengths of the ingredient: of other products of the tables, else the half and the double."""
    _, form, strength = parts(drug.name)
    others = [parts(other.name)[2] for other in known.by_ingredient[drug.ingredient] if parts(other.name)[1] == form]
    found = [other for other in others if other and other != strength]
    if found or not strength:
        return found
    number = re.sub(r"[^\d.]+$", "", strength)
    unit = strength[len(number) :]
    if unit not in ("mg", "μg"):
        return []
    value = Decimal(number)
    return [f"{(value / 2).normalize():f}{unit}", f"{(value * 2).normalize():f}{unit}"]

"""Clean stories: a patient, diseases, and what was given and done for them, all of it fit for the starter's tables.

Drugs and acts of a disease are those whose indications name it; nothing contraindicated, nothing over its limit, nobody of
the wrong age or sex. What a checker may still find in it is found by the checker, and the story is drawn again
(`training.receipts.draw`).
"""

import random
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal

from app.receipts.tables import Act, DiseaseRow, Drug, fold
from training.receipts.catalog import Catalog, catalog, form_of, section, sided, suits_age
from training.receipts.story import Problem, Service, Story, Supply

# Rather for wards and emergency rooms than for a clinic's month.
_ACUTE = frozenset(
    (
        "0389004 0408004 0543002 2429002 3089003 3481004 4274004 4289005 4309001 4319020 4369009 4939010 "
        "5109010 5679015 5700002 5722003 5849003 6951003 8830279 8832376 8832422 8834172 8834632 8837936 "
        "8838852 8842272 8846372 8835320 8837871 6349002 8833024 5609030 8839057 1718002 2860002 2861002 "
        "2864002 1869014 1874002 8835916 4461003 9968003"
    ).split()
)
_COMMON = frozenset(
    (
        "8840107 8833421 2500015 8844446 2720004 2721002 8839972 5319009 5301002 8842668 5351003 5351002 "
        "8847604 8840042 8833267 5641015 5718008 2749004 7906015 4273006 8846942 4289018 4289015 8841212 "
        "4139007 8837807 8838708 4939008 8840399 8846176 4779004 4770002 4659007 4660009 8832280 7153018 "
        "7151003 7213016 7240012 7221010 7243008 8840829 7262008 7330006 7330028 8831347 7233009 8842106 "
        "8836591 8843031 5959015 3446003 8842549 8842618 3004001 2961003 8839596 8837899 3469004 7840024 "
        "3078015 8840549 8842865 6923002 6918002 8841304 8836770 8839248 7061037 3659003 3651010 3723001 "
        "3721002 8842163 2809009 8833504 2452003 2420002 8833502 7330026 8838078 2503005 8844106 8847489 "
        "8840255 7805017 6272001 8833259 6181004 6170005 0531012 8842189 4871001 4619004 4739014 3829010 "
        "5280017"
    ).split()
)
_THREE = frozenset(
    (
        "1149019 2233002 3136004 1249009 1249010 2399010 2329012 2239001 2316009 2316014 3399003 2399008 1339005 "
        "2344009 6131001 6132016 2399004 2399005 3969004 3999013 1231013 2318001 4419002"
    ).split()
)
_TWO = frozenset(
    (
        "4490023 4490025 4490022 3962002 1149037 1190017 2399009 2171017 3399002 3339004 2149032 6250031 3999031 "
        "6219001 2590009 1139002 1139010 2590010"
    ).split()
)
_NEEDED = frozenset(
    "1149019 2160003 2160004 2160005 2160006 1147002 1141001 2399005 1129009 1179025 2319001 1124009".split()
)
# Antibiotics and antivirals, cough and cold.
_SHORT = ("61", "62", "22")
_LABS = (
    "160008010 160022510 160022610 160019210 160019010 160021410 160054710 160019410 160167250 160023410 160020910 "
    "160000310 160005010 160019310 160020410 160021110 160017410 160018910 160020610 160019510 160020010 160021510"
).split()
_JUDGED = {
    "1600003": "160061710",
    "1600050": "160061710",
    "1600080": "160061810",
    "1600100": "160061810",
    "16003": "160062010",
    "160116": "160062010",
    "160162350": "160062010",
    "160181250": "160062010",
    "160054710": "160062110",
    "16004": "160062110",
    "1600": "160061910",
    "160167250": "160061910",
}
_FAMILY = (
    "ミホン カクウ タメシ ツクリ カリノ アオヤマ ヒガシダ ニシハラ ハナムラ イズミダ オオサワ コマキ サワムラ タキノ "
    "ナミキ フジサワ マツナガ ミズシマ モリシタ ユウキ ワカバ ハシモト クラタ ノムラ"
).split()
_MEN = "イチロウ ケンジ マサオ タカシ ヒロシ ユウタ ソウタ ハルト ショウゾウ カズオ トシオ ダイスケ".split()
_WOMEN = "ハナコ ヨシコ サチコ ミサキ ユイ アオイ カズコ トモコ メグミ ナオミ フミ キヨ".split()
_USAGE = {
    1: "朝食後|夕食後|就寝前|朝食前|朝",
    2: "朝夕食後|朝夕|朝食後と就寝前|朝夕食前",
    3: "毎食後|毎食前|朝昼夕食後|毎食後30分",
}
_DAYS = (3, 4, 5, 5, 7, 7, 7, 10, 14, 14, 14, 14, 14, 21, 28, 28, 28, 28, 28, 30, 30, 30, 35, 42, 56, 60)


def supply(rng: random.Random, drug: Drug, visit: int, days: int, age: int) -> Supply:
    """As it is usually given."""
    form = form_of(drug)
    unit = fold(drug.unit)
    if drug.yj[:2] in _SHORT and days > 10:
        days = rng.choice((3, 4, 5, 5, 7, 7))
    if form == "oral" and drug.ingredient in _NEEDED and (rng.random() < 0.3 or drug.ingredient.startswith("2160")):
        doses = rng.choice((3, 4, 5, 5, 6, 10, 10))
        use = rng.choice(("疼痛時", "頭痛時", "発熱時", "頓用", "頓服", "不眠時", "症状時", "痛い時"))
        return Supply(drug, drug, "given", visit, "needed", Decimal(1), 1, doses, doses, use)
    if form == "oral":
        intakes = 3 if drug.ingredient in _THREE else 2 if drug.ingredient in _TWO else 1
        if unit in ("g", "mL"):
            intakes = rng.choice((2, 3))
            amount = Decimal(rng.choice(("0.6", "0.9", "1", "1.2", "1.5", "2", "3")))
        else:
            amount = Decimal(intakes * (2 if rng.random() < 0.12 else 1))
        return Supply(
            drug, drug, "given", visit, form, amount, intakes, days, days, rng.choice(_USAGE[intakes].split("|"))
        )
    if form == "injected":
        return Supply(drug, drug, "given", visit, form, Decimal(1), 1, 1, 1, "")
    count = {"枚": (7, 14, 21, 28, 35), "g": (5, 10, 20, 25, 50), "mL": (5, 5, 10), "個": (3, 5, 10)}.get(
        unit, (1, 1, 2)
    )
    use = {
        "枚": "1日1回貼付|1日1枚|患部に貼付",
        "g": "1日2回塗布|患部に塗布|1日数回塗布",
        "mL": "1日4回点眼|両眼1日3回|1日2回点眼",
        "個": "発熱時|頓用",
    }.get(unit, "1日1回|1日2回")
    amount = Decimal(rng.choice(count))
    return Supply(drug, drug, "given", visit, form, amount, 1, 1, 1, rng.choice(use.split("|")))


def service(act: Act, visit: int, said: str = "done", claimed: bool = True) -> Service:
    amount = 1 if act.unit in ("枚", "種類", "項目", "単位") else None
    return Service(act, said, (visit,), {visit: 1} if claimed else {}, section(act), amount)


def icd10_of(problems: Iterable[Problem], certain: bool = False) -> list[str]:
    wanted = ("certain",) if certain else ("certain", "suspected")
    return [problem.row.icd10 for problem in problems if problem.claimed in wanted]


def draw_story(rng: random.Random) -> Story:
    """A clean story of one month."""
    known = catalog()
    age = rng.choices(
        (rng.randint(0, 11), rng.randint(12, 39), rng.randint(40, 64), rng.randint(65, 92)), (8, 17, 35, 40)
    )[0]
    female = rng.random() < 0.52
    month = date(rng.randint(2024, 2026), rng.randint(1, 12), 1)
    first = month + timedelta(days=rng.randint(0, 26))
    visits = [first]
    if rng.random() < 0.42 and first.day < 24:
        gap = rng.choice((1, 3, 7, 7, 14, 14))
        if first.day + gap <= 28:
            visits.append(first + timedelta(days=gap))
    birth = (
        date(first.year - age, rng.randint(1, first.month), 1)
        if rng.random() < 0.2
        else first - timedelta(days=365 * age + rng.randint(95, 330))
    )
    given = rng.choice(_WOMEN if female else _MEN)
    family = rng.choice(_FAMILY)
    story = Story(
        female, birth, month, tuple(visits), f"{family}　{given}", f"{family}　{given}", f"{rng.randrange(1, 99999):0{rng.choice((5, 6, 8, 10))}}",
        rng.randint(1, 900), rng.randint(2, 4000),
    )  # fmt: skip
    age = story.age()
    _problems(rng, story, known, age)
    _supplies(rng, story, known, age)
    _services(rng, story, known, age)
    return story


def free_diseases(
    rng: random.Random, story: Story, known: Catalog, count: int, common: float = 0.7
) -> list[DiseaseRow]:
    """Diseases that the patient may have: not there yet under the first three characters of ICD-10, not contraindicating."""
    age = story.age()
    taken = {problem.row.icd10[:3] for problem in story.problems}
    drugs = {supply.named.ingredient for supply in story.supplies}
    rows = list(known.diseases)
    rng.shuffle(rows)
    chosen: list[DiseaseRow] = []
    rows.sort(
        key=lambda row: rng.random() * (0.12 if row.code in _COMMON else 1) if rng.random() < common else rng.random()
    )
    for row in rows[:120]:
        if len(chosen) == count:
            break
        if row.code in _ACUTE or row.icd10[:3] in taken or not known.disease_suits(row, story.female, age):
            continue
        if any(known.clashes(drug, row.icd10) for drug in drugs):
            continue
        taken.add(row.icd10[:3])
        chosen.append(row)
    return chosen


def _since(rng: random.Random, story: Story, longest: int = 3200) -> date:
    return max(story.birth + timedelta(days=5), story.visits[0] - timedelta(days=rng.randint(0, longest)))


def problem(rng: random.Random, story: Story, row: DiseaseRow, said: str, claimed: str) -> Problem:
    """With a side, where the disease has one."""
    longest = 50 if claimed == "suspected" else 3200 if row.icd10[0] not in "JABT" else 12
    side = ""
    if sided(row) and rng.random() < 0.75:
        side = rng.choice(("右", "左", "両"))
    return Problem(row, said, claimed, _since(rng, story, longest), side, side)


def _problems(rng: random.Random, story: Story, known: Catalog, age: int) -> None:
    for n, row in enumerate(free_diseases(rng, story, known, rng.choice((1, 2, 2, 3, 3, 4)))):
        said = "present"
        claimed = "certain"
        if n and rng.random() < 0.16:
            said, claimed = "suspected", "suspected"
        elif rng.random() < 0.08:
            said = "confirmed"
        story.problems.append(problem(rng, story, row, said, claimed))
    story.problems[0].main = rng.random() < 0.8


def _supplies(rng: random.Random, story: Story, known: Catalog, age: int) -> None:
    days = rng.choice(_DAYS)
    group = 0
    for one in story.problems:
        if one.claimed != "certain":
            continue
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            drug = suitable_drug(rng, story, known, one)
            if drug is None or len(story.supplies) >= 7:
                break
            visit = rng.randrange(len(story.visits))
            given = supply(rng, drug, visit, days if rng.random() < 0.7 else rng.choice(_DAYS), age)
            same = [
                s
                for s in story.supplies
                if s.visit == visit and s.form == given.form == "oral" and s.days == given.days
            ]
            group += 1
            given.group = same[0].group if same and rng.random() < 0.6 else group
            if given.group == group and rng.random() < 0.12:
                given.comment = neutral(rng)
            story.supplies.append(given)


def suitable_drug(rng: random.Random, story: Story, known: Catalog, one: Problem) -> Drug | None:
    """A drug for the problem that goes with all else."""
    age = story.age()
    drugs = [
        drug
        for drug in known.treating(one.row.code)
        if suits_age(drug, age) and known.for_person(drug.ingredient, story.female, age)
    ]
    have = {given.named.yj[:4] for given in story.supplies}
    icd10 = [p.row.icd10 for p in story.problems]
    rng.shuffle(drugs)
    for drug in drugs:
        if drug.yj[:4] not in have and not any(known.clashes(drug.ingredient, code) for code in icd10):
            return drug
    return None


_NEUTRAL = (
    "疼痛時 発熱時 １日１回朝食後 右膝 家族に説明済 前回と同じ部位 院内採用品 一包化 疼痛部位に使用 "
    "食後服用 用法説明済 朝夕食後 左肩 就寝前 両手 次回再診予定 本人希望"
).split()


def neutral(rng: random.Random) -> str:
    """A comment of the claim that explains nothing."""
    return rng.choice(_NEUTRAL)


def add_act(story: Story, known: Catalog, act: Act, visit: int) -> Service | None:
    """The act at the visit, if nothing speaks against it."""
    have = [one.row.code for one in story.services]
    if act.code in have or known.excludes(act.code, have) or not known.for_person(act.code, story.female, story.age()):
        return None
    if not known.fits(act.code, icd10_of(story.problems)):
        return None
    made = service(act, visit)
    story.services.append(made)
    return made


def _services(rng: random.Random, story: Story, known: Catalog, age: int) -> None:
    acts = known.tables.acts
    visits = len(story.visits)
    first = rng.random() < 0.12 and all((story.visits[0] - p.since).days <= 60 for p in story.problems)
    again = [n for n in range(visits) if not (first and n == 0)]
    if first:
        _unsaid(story, acts["111000110"], {0: 1})
        for one in story.problems:
            one.since = story.visits[0]
    if again:
        _unsaid(story, acts["112007410"], dict.fromkeys(again, 1))
    for one in list(story.problems):
        testing = list(known.testing(one.row.code))
        rng.shuffle(testing)
        for act in testing[: rng.choice((0, 0, 1, 1, 2)) + (one.claimed == "suspected")]:
            if act.code.startswith(("113", "114", "180")) and rng.random() >= 0.25:
                continue
            if done := add_act(story, known, act, rng.randrange(visits)):
                done.said = "unsaid" if act.code.startswith(("113", "114")) else "done"
                if rng.random() < 0.06:
                    done.comment = neutral(rng)
    if rng.random() < 0.6:
        visit = rng.randrange(visits)
        for code in rng.sample(_LABS, rng.randint(1, 4)):
            add_act(story, known, acts[code], visit)
    if rng.random() < 0.12:
        for code in rng.choice(
            (
                ("170000410", "170027910"),
                ("160072210",),
                ("170011810", "170015410"),
                ("140000610",),
                ("140029610",),
                ("170020110", "170015410"),
            )
        ):
            if done := add_act(story, known, acts[code], 0 if rng.random() < 0.6 else visits - 1):
                done.said = "done" if code not in ("170000410", "170015410") else "unsaid"
    labs = [
        s
        for s in story.services
        if s.section == "60"
        and s.times
        and not s.row.code.startswith(("160068", "160069", "16007", "16009", "16011941", "16006"))
    ]
    if labs and rng.random() < 0.6:
        day = labs[0].visits[0]
        _unsaid(story, acts["160095710"], {day: 1})
        for code in sorted({found for s in labs if (found := _judged(s.row.code))})[:2]:
            if rng.random() < 0.7:
                _unsaid(story, acts[code], {day: 1})
    have = [s.row.code for s in story.services]
    if again and not known.excludes("112011010", have) and rng.random() < 0.5 and age >= 6:
        _unsaid(story, acts["112011010"], {again[-1]: 1})
    _dispensing(rng, story, known)


def _judged(code: str) -> str | None:
    return next(
        (
            judged
            for prefix, judged in sorted(_JUDGED.items(), key=lambda pair: -len(pair[0]))
            if code.startswith(prefix)
        ),
        None,
    )


def _unsaid(story: Story, act: Act, times: dict[int, int]) -> None:
    """What a chart does not speak of: fees that follow from the visit."""
    story.services.append(Service(act, "unsaid", tuple(times), times, section(act)))


def _dispensing(rng: random.Random, story: Story, known: Catalog) -> None:
    acts = known.tables.acts
    given = [s for s in story.claimed_supplies if s.form != "injected"]
    for one in [s for s in story.supplies if s.form == "injected"]:
        code = {"3919502": "130003510", "3999408": ""}.get(one.named.ingredient, "130000510")
        if code:
            _unsaid(story, acts[code], {one.visit: 1})
    if not given:
        return
    visits = sorted({s.visit for s in given})
    _unsaid(story, acts["120001210"], dict.fromkeys(visits, 1))
    if oral := sorted({s.visit for s in given if s.form != "outside"}):
        _unsaid(story, acts["120000710"], dict.fromkeys(oral, 1))
    if rng.random() < 0.5:
        _unsaid(story, acts["120001810"], {visits[0]: 1})

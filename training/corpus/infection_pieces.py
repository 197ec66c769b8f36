"""Infection screening tests as written: names of the six tests, results with marks and quantities, headings, lists."""

import random

from schemas.statement import Field, InfectionResult, Kind
from training.corpus.core import Context, Fact
from training.corpus.lab_marks import yes_no
from training.corpus.lab_values import Part, day_text
from training.corpus.names import Names

P, N, I = InfectionResult.POSITIVE, InfectionResult.NEGATIVE, InfectionResult.INDETERMINATE  # noqa: E741

# one writer's way of naming the six tests: HBs antigen, HBs antibody, HCV, RPR, TP, HIV
HANDS = tuple(
    tuple(row.split("|"))
    for row in """
HBs抗原|HBs抗体|HCV抗体|RPR|TPHA|HIV
HBsAg|HBsAb|HCVAb|RPR|TPHA|HIV
HBs-Ag|HBs-Ab|HCV-Ab|RPR|TP|HIV-Ab
HBs Ag|HBs Ab|HCV Ab|STS|TPHA|HIV Ag/Ab
HBs抗原定性|HBs抗体定性|HCV抗体定性|RPR定性|TP抗体定性|HIV抗原・抗体
HBs抗原定量|HBs抗体定量|HCV抗体|RPR定量|TPLA|HIV1/2抗体
HBV|HBs抗体|HCV|梅毒|TP抗体|HIV
HBs-抗原|HBs-抗体|HCV-抗体|ガラス板法|梅毒TP抗体|HIV抗体
HBs抗原|HBs抗体|HCV抗体|梅毒RPR|梅毒TP|HIVスクリーニング
HBsAg|HBsAb|anti-HCV|梅毒STS|梅毒TPHA|HIV-1/2
ＨＢｓ抗原|ＨＢｓ抗体|ＨＣＶ抗体|ＲＰＲ|ＴＰＨＡ|ＨＩＶ
HBs 抗原|HBs 抗体|HCV 抗体|RPR法|TP抗体|HIV Ag/Ab
HBs抗原|抗HBs抗体|抗HCV抗体|RPR|TPAb|抗HIV抗体
HBAg|HBAb|HCV|ワ氏|TPHA|HIV
HBs抗原(CLIA)|HBs抗体(CLIA)|HCV抗体(CLIA)|RPR(LA)|TP抗体(LA)|HIV(CLIA)
HBs抗原|HBs抗体|HCV抗体|梅毒脂質抗体|梅毒トレポネーマ抗体|HIV抗原抗体
HBs抗原|HBs抗体|HCV|RPR|TP|HIV
HB抗原|HB抗体|HCV抗体|RPR|TP抗体|HIV
HBs抗原|HBs抗体|HCV抗体|STS|TP|HIV抗体
HBs-Ag|HBs-Ab|HCV-Ab|STS|TP|HIV
B型肝炎抗原|B型肝炎抗体|C型肝炎抗体|STS定性|TPHA定性|HIV検査
HBs抗原|HBs抗体|HCV-III|梅毒RPR法|梅毒TPLA|HIV-Ag/Ab""".strip().splitlines()
)
WORN = (
    "HBc抗体", "HBcAb", "HBc-Ab", "IgM-HBc抗体", "HBV-DNA", "HCV-RNA", "HTLV-1", "HTLV-1抗体", "HTLV-I", "HBe抗原",
    "HBe抗体", "HCVコア抗原", "ATLA", "風疹抗体", "MRSA", "COVID-19抗原", "T-SPOT", "コロナ抗原",
)  # fmt: skip
NEGATIVE = (
    "(-)", "(-)", "（-）", "（－）", "（−）", "陰性", "陰性", "－", "-", "neg", "negative", "(ー)", "Neg", "Negative",
    "（陰性）", "(陰性)", "[-]", "−",
)  # fmt: skip
POSITIVE = (
    "(+)", "(+)", "（+）", "（＋）", "陽性", "陽性", "＋", "+", "pos", "positive", "Positive", "（陽性）", "(1+)",
    "2+", "強陽性", "(陽性)",
)  # fmt: skip
_UNCLEAR = ("(±)", "±", "（±）", "判定保留", "弱陽性", "疑陽性", "擬陽性", "保留")
WORDS = {
    N: ("陰性", "(-)", "（－）", "neg", "陰性", "-", "(-)", "－", "negative", "（-）"),
    P: ("陽性", "(+)", "（＋）", "陽性", "pos", "positive", "＋"),
}
# quantities: units, negative range, positive range, decimals
_AMOUNTS = {
    0: (("IU/mL", "C.O.I", "COI", "S/CO", "IU/ml"), (0.0, 0.04), (0.06, 4800.0), 2),
    1: (("mIU/mL", "mIU/ml", "IU/L"), (0.0, 9.8), (10.0, 980.0), 1),
    2: (("COI", "S/CO", "C.O.I.", "C.O.I"), (0.0, 0.9), (1.1, 24.0), 2),
    3: (("R.U.", "RU", "倍", "SU/mL"), (0.0, 0.9), (1.0, 128.0), 1),
    4: (("COI", "S/CO", "T.U.", "TU", "U/mL"), (0.0, 0.9), (1.2, 260.0), 1),
    5: (("COI", "S/CO", "C.O.I"), (0.0, 0.9), (1.2, 40.0), 2),
}
BRACKETS = "()（）[]"


def infection_fact(name: str, value: str, said: InfectionResult | None, unit: str = "", day: str = "") -> Fact:
    fields = {Field.NAME: name, Field.VALUE: value}
    if unit:
        fields[Field.UNIT] = unit
    if day:
        fields[Field.DATE] = day
    return Fact(Kind.INFECTION, fields, result=said)


def outcome(rng: random.Random, positive: float) -> InfectionResult:
    roll = rng.random()
    return P if roll < positive else I if roll < positive + 0.03 else N


def shown_result(rng: random.Random, said: InfectionResult) -> tuple[str, str]:
    """A result marker as laid out and the value inside its brackets."""
    shown = rng.choice(POSITIVE if said is P else NEGATIVE if said is N else _UNCLEAR)
    return shown, shown.strip(BRACKETS)


def chosen_tests(rng: random.Random, names: Names) -> list[tuple[int, str]]:
    """(which of the six, name as written) of one screening, in the usual order or shuffled."""
    hand = list(rng.choice(HANDS))
    if rng.random() < 0.25:
        hand = [rng.choice(HANDS)[n] for n in range(6)]
    which = rng.choice(
        (
            [0, 2, 3, 4],
            [0, 2, 3, 4],
            [0, 2, 3, 4, 5],
            [0, 2],
            [0, 2, 4],
            [0, 2, 3, 4],
            [0, 1, 2],
            [0, 2, 5],
            [0, 1, 2, 3, 4, 5],
            [3, 4],
            [0],
            [2],
            [0, 1],
            [4],
            [5],
            [0, 2, 3],
        )
    )
    pairs = [(n, hand[n]) for n in which]
    if rng.random() < 0.12:
        rng.shuffle(pairs)
    if rng.random() < 0.25:
        at = rng.randrange(len(pairs))
        pairs[at] = (-1, names.infection(rng))
    found: dict[str, tuple[int, str]] = {}
    for n, name in pairs:
        if not any(name in other or other in name for other in found):
            found[name] = (n, name)
    return list(found.values())


_BOUNDED = (
    "<0.05", "<0.1", "<1.0", "＜0.5", "<0.02", "0.05未満", "<2.0", "1.0未満", "0.1以下", "<10.0", "≦0.9", "<0.005",
)  # fmt: skip


def quantity(rng: random.Random, which: int, said: InfectionResult) -> tuple[str, str]:
    units, low, high, decimals = _AMOUNTS[which if which in _AMOUNTS else 2]
    span = high if said is not N else low
    text = f"{span[0] + (span[1] - span[0]) * rng.random() ** 3:.{rng.choice((decimals, decimals, max(0, decimals - 1)))}f}"
    if said is N and rng.random() < 0.3:
        text = rng.choice(_BOUNDED)
    if said is P and rng.random() < 0.08:
        text = rng.choice((">1000", "≧100", "＞250", ">128", "1,240", "100以上", "2,000以上"))
    return text, rng.choice(units)


_QUANTITY_FORMS = (
    "{n}{s}{a}{u}", "{n}{s}{a}{u}", "{n}{s}{w}({a}{u})", "{n}{s}{w}（{a}{u}）", "{n}{s}{a}{u} {w}",
    "{n}{s}{a}{u}({w})", "{n}{s}{w} {a}{u}", "{n}{s}{w}、{a}{u}", "{n}{s}{a}{u}（{w}）", "{n}({w}) {a}{u}",
    "{n}[{w}:{a}{u}]",
)  # fmt: skip


def test_piece(
    rng: random.Random, ctx: Context, which: int, name: str, positive: float, day: str, quantities: float
) -> Part:
    """One test with its result."""
    said = outcome(rng, positive)
    sep = ctx.habit(rng, "inf_sep", "", "", "", "：", ": ", " ", " ", "　", ":", "=", " : ")
    shown, value = shown_result(rng, said)
    if rng.random() >= quantities:
        if sep == "" and (
            name[-1].isascii()
            and shown.isascii()
            and shown[0].isalpha()
            or shown[0] in "-+±N0123456789"
            and name[-1] in "-0123456789"
        ):
            sep = " "
        if shown[0] in "(（[" and rng.random() < 0.5:
            sep = ""
        return name + sep + shown, [infection_fact(name, value, said, day=day)]
    amount, unit = quantity(rng, which, said)
    if unit and ("未満" in amount or "以" in amount) or rng.random() < 0.3:
        unit = ""
    form = rng.choice(_QUANTITY_FORMS)
    spoken = "{w}" in form
    word = rng.choice([w for w in WORDS.get(said, ("判定保留", "±", "疑陽性")) if "(" not in w and "（" not in w])
    if "{w} {a}" in form or "{w}、" in form or "{u} {w}" in form:
        word = {N: "陰性", P: "陽性", I: "判定保留"}[said]
    if not sep and ("{s}{a}" in form or word[0].isascii() and name[-1].isascii()):
        sep = " "
    glue = " " if unit and rng.random() < 0.6 else ""
    text = form.format(n=name, s=sep, a=amount, u=glue + unit if unit else "", w=word)
    return text, [infection_fact(name, amount, said if spoken else None, unit, day)]


_TITLES = (
    "感染症", "感染症", "感染", "感染症検査", "術前感染症", "感染症スクリーニング", "入院時感染症", "感染症検査結果",
    "ウイルス検査", "感染症マーカー", "Infection", "術前検査 感染症", "ウイルスマーカー", "感染症（術前）",
    "肝炎ウイルス", "感染情報", "感染症関連", "感染症チェック", "血清学的検査", "Virus marker", "STD", "感染症セット",
    "輸血前感染症",
)  # fmt: skip
_FRAMES = (
    "{}：", "{}: ", "{} ", "【{}】", "＜{}＞", "[{}]", "■{} ", "・{}：", "# {} ", "◎{}：", "({}) ", "{}）", "{}　",
    "{}→", "* {}: ", "〔{}〕", "●{}：", "○{} ", "{}は",
)  # fmt: skip
_DATED = (
    "{t}({d})", "{t}（{d}）", "{t} {d}", "{d} {t}", "{t}（{d}採血）", "{t}({d}検査)", "{d}{t}", "{t}（前医{d}）",
    "{t}（{d} 当院）",
)  # fmt: skip


def opening(rng: random.Random, ctx: Context, share: float = 0.75) -> tuple[str, str]:
    """The text before the results and the date in it."""
    if rng.random() >= share:
        return "", ""
    title = rng.choice(_TITLES)
    day = day_text(rng, ctx, 0.25, 0.2) if rng.random() < 0.35 else ""
    if day:
        title = rng.choice(_DATED).format(t=title, d=day)
    return rng.choice(_FRAMES).format(title), day


_NOT_TESTED = (
    "は未検", " 未検", "：未検", "：結果待ち", " 未施行", "：同意取得後", "：提出中", "は検査せず", "(未)", " 未",
)  # fmt: skip


def screening(rng: random.Random, names: Names, ctx: Context, day: str) -> list[Part]:
    positive = rng.choice((0.0, 0.1, 0.1, 0.25, 0.45))
    quantities = rng.choice((0.0, 0.0, 0.0, 0.1, 0.5, 1.0))
    parts = [test_piece(rng, ctx, n, name, positive, day, quantities) for n, name in chosen_tests(rng, names)]
    if rng.random() < 0.25:
        parts.insert(rng.randint(0, len(parts)), yes_no(rng, rng.choice(WORN), day, 0.25))
    if rng.random() < 0.15:
        hand = rng.choice(HANDS)
        free = [n for n in (hand[5], hand[1], "HIV", "HTLV-1") if not any(n in t for t, _ in parts)]
        if free:
            parts.append(
                (
                    rng.choice(free) + rng.choice(_NOT_TESTED),
                    [],
                )
            )
    return parts

"""Laboratory results without a scale: urine strips, tests of yes or no, blood groups."""

import random

from schemas.statement import Field
from training.corpus.lab_values import Part, Result, joined, lab


def graded(rng: random.Random) -> str:
    return rng.choice(("-", "-", "-", "±", "+", "1+", "2+", "3+", "+-", "4+", "−", "－", "＋", "++"))


_URINE = (
    ("蛋白", "糖", "潜血", "ケトン体", "ウロビリノーゲン", "ビリルビン", "白血球", "亜硝酸塩"),
    ("尿蛋白", "尿糖", "尿潜血", "尿ケトン", "尿ウロビリノーゲン", "尿白血球", "尿亜硝酸塩", "尿ビリルビン"),
    ("U-pro", "U-glu", "U-OB", "U-ket", "U-uro", "U-WBC", "U-nit", "U-bil"),
    ("pro", "glu", "OB", "ket", "uro", "WBC反応", "nit", "bil"),
    ("TP", "Glu", "OB", "Ket", "Uro", "WBC", "NIT", "Bil"),
    ("Prot", "Gluc", "Blood", "Ketone", "Urobil", "Leuko", "Nitrite", "Bili"),
    ("尿タンパク", "尿糖定性", "潜血", "アセトン体", "Uro", "沈渣細菌", "亜硝酸", "沈渣WBC"),
    ("尿蛋白定性", "尿糖", "尿鮮血", "尿ケトン体", "尿ウロビリ", "尿WBC", "細菌", "円柱"),
)
POSNEG = (
    "便潜血", "便潜血1回目", "便潜血2回目", "インフルエンザA", "インフルエンザB", "インフルA", "インフルB", "Flu A",
    "Flu B", "インフルエンザ抗原", "インフル迅速", "COVID-19抗原", "新型コロナ抗原", "コロナ抗原", "SARS-CoV-2 PCR",
    "COVID抗原", "コロナPCR", "溶連菌迅速", "溶連菌", "A群溶連菌抗原", "RSV", "RSウイルス抗原", "アデノ",
    "アデノウイルス抗原", "hMPV", "ノロウイルス抗原", "ロタ", "尿中肺炎球菌抗原", "尿中レジオネラ抗原",
    "肺炎球菌尿中抗原", "レジオネラ尿中抗原", "マイコプラズマ抗原", "CDトキシン", "CD toxin", "GDH", "T-SPOT", "QFT",
    "クォンティフェロン", "HBc抗体", "HBcAb", "HBe抗原", "HBe抗体", "HTLV-1抗体", "HTLV-1", "HTLV-I", "HCV-RNA",
    "HBV-DNA", "妊娠反応", "hCG定性", "尿妊娠反応", "直接クームス", "間接クームス", "不規則抗体",
    "クリプトコッカス抗原", "アスペルギルス抗原", "抗核抗体", "RF定性", "トロポニンT定性", "トロップT", "H-FABP",
    "尿素呼気試験", "ピロリ抗体", "便中ピロリ抗原", "抗SS-A抗体", "抗SS-B抗体", "抗ds-DNA抗体", "TB-PCR", "抗GAD抗体",
    "百日咳抗体",
)  # fmt: skip
_YES = ("陽性", "(+)", "（+）", "＋", "+", "（＋）", "positive", "陽性", "pos", "(1+)", "弱陽性")
_NO = ("陰性", "陰性", "(-)", "(-)", "（-）", "-", "（－）", "（−）", "neg", "negative", "－")


def marker(rng: random.Random, positive: float = 0.3) -> tuple[str, str]:
    """A qualitative result as laid out, and the piece of it that is the value (without its brackets)."""
    shown = rng.choice(_YES if rng.random() < positive else _NO)
    return shown, shown.strip("()（）")


def yes_no(rng: random.Random, name: str, day: str = "", positive: float = 0.3) -> Part:
    shown, value = marker(rng, positive)
    between = (
        ""
        if shown[0] in "(（" and rng.random() < 0.7
        else rng.choice(("：", ":", " ", " ", "　", "は" if "性" in shown else ": ", "" if "性" in shown else " "))
    )
    return name + between + shown, [lab(Result(name, value), day)]


def urine_run(rng: random.Random, day: str = "") -> Part:
    """Urine strip results on one line: brackets, slashes or spaces."""
    order = list(rng.choice(_URINE)[: rng.randint(2, 8)])
    if rng.random() < 0.3:
        order = rng.sample(order, rng.randint(1, len(order)))
    form = rng.choice(
        ("{n}({v})", "{n}({v})", "{n}（{v}）", "{n} {v}", "{n}：{v}", "{n} ({v})", "{n}:{v}", "{n}{v}", "{n} [{v}]")
    )
    parts: list[Part] = []
    for n in order:
        v = graded(rng)
        if form == "{n}{v}" and (n.isascii() or v[0].isdigit()):
            parts.append((f"{n} {v}", [lab(Result(n, v))]))
        else:
            parts.append((form.format(n=n, v=v), [lab(Result(n, v))]))
    if rng.random() < 0.3:
        extra = rng.choice(
            (
                ("比重", f"1.0{rng.randint(3, 32):02}"),
                ("pH", f"{rng.uniform(5, 8):.1f}"),
                ("RBC", f"{rng.randint(1, 40)}"),
                ("比重", "1.015"),
            )
        )
        at = rng.choice(("/HPF", "/hpf", "")) if extra[0] == "RBC" else ""
        parts.append((f"{extra[0]} {extra[1]}{at}", [lab(Result(extra[0], extra[1], at))]))
    text, facts = joined(
        parts,
        rng.choice((" ", "、", ", ", " / ", "　", "，", "/", "・", ""))
        if "(" in form or "（" in form
        else rng.choice((" / ", "、", ", ", "  ", "　")),
    )
    if rng.random() < 0.25:
        text += rng.choice(("、", " ", "　")) + rng.choice(("沈渣", "沈渣：", "尿沈渣 ", "沈渣) "))
        if rng.random() < 0.3:
            text += rng.choice(("異常なし", "n.p.", "細菌・円柱なし"))
        else:
            cells = rng.choice((("RBC", "WBC"), ("赤血球", "白血球"), ("RBC",), ("WBC",)))
            per = rng.choice(("/HPF", "/hpf", "/F", "個/HPF", ""))
            counted = [(n, rng.choice(("<1", "1-4", "1-4", "5-9", "10-19", "20-29", "50-99", "≧100"))) for n in cells]
            sediment, more = joined([(f" {n} {v}{per}", [lab(Result(n, v, per))]) for n, v in counted], "、")
            text, facts = text + sediment, facts + more
    for fact in facts:
        if day:
            fact.fields[Field.DATE] = day
    return text, facts


def blood_group(rng: random.Random, day: str = "") -> Part:
    group = rng.choice(("A", "B", "O", "AB"))
    name = rng.choice(("血液型", "血液型", "ABO", "ABO式血液型", "血型"))
    shown, value = rng.choice(
        (("(+)", "+"), ("（+）", "+"), ("＋", "＋"), ("(-)", "-"), ("陽性", "陽性"), ("+", "+"), ("（＋）", "＋"))
    )
    rh = rng.choice(("Rh", "Rh", "RhD", "RH", "Rh(D)"))
    if rng.random() < 0.3 or shown == "陽性" and rh == "Rh(D)":
        rh = "Rh"
    first = (
        name + rng.choice(("：", " ", ":", "　", "は")) + group + rng.choice(("型", "型", "")),
        [lab(Result(name, group), day)],
    )
    if rng.random() < 0.2:
        return first
    return joined(
        [first, (rh + (shown if shown[0] != "陽" else rng.choice(("", " ")) + shown), [lab(Result(rh, value), day)])],
        rng.choice((" ", "、", "　", "/", "")) if first[0].endswith("型") else " ",
    )

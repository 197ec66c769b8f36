"""Units of amounts of drugs: MERIT-9 abbreviations by the names that charts write.

Source: JP Core, CodeSystem JP_MedicationUnitMERIT9_CS 1.0.0 (MERIT9医薬品単位略号), not all of its units; IU is our name of
国際単位.
"""

from schemas.spelling import fold


def fold_unit(unit: str) -> str:
    """`fold` with u for μ, as it is written in ASCII."""
    return fold(unit).replace("μ", "u")


_MERIT9 = {
    fold_unit(written): code
    for code, units in {
        "TAB": "錠", "CAP": "カプセル", "PCK": "包", "ML": "mL", "L": "L", "MCL": "uL", "G": "g", "MG": "mg",
        "KG": "kg", "MCG": "ug", "HON": "本", "SHT": "枚", "KO": "個", "BTL": "瓶", "BAG": "袋", "PIPE": "筒",
        "TUBE": "管", "KIT": "キット", "SHET": "シート", "SET": "セット", "PARI": "組", "BLST": "ブリスター",
        "UNT": "単位", "IUNT": "国際単位 IU", "TTUN": "万単位", "DROP": "滴", "AMP": "アンプル", "VIL": "バイアル",
        "SYRG": "シリンジ", "PILL": "丸", "TROC": "トローチ", "MEQ": "mEq", "DOSE": "回分", "TIME": "回", "BOX": "箱",
        "CAN": "缶", "CM": "cm",
    }.items()
    for written in units.split()
}  # fmt: skip


def merit9_code(unit: str) -> str | None:
    return _MERIT9.get(fold_unit(unit))

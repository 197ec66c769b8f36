"""Words for relatives to HL7 v3 RoleCode."""

ROLES = {
    "FAMMEMB": "family member", "FTH": "father", "MTH": "mother", "PRN": "parent", "SIB": "sibling",
    "BRO": "brother", "SIS": "sister", "TWIN": "twin", "CHILD": "child", "SONC": "son", "DAUC": "daughter",
    "GRPRN": "grandparent", "GRFTH": "grandfather", "GRMTH": "grandmother",
    "MGRPRN": "maternal grandparent", "MGRFTH": "maternal grandfather", "MGRMTH": "maternal grandmother",
    "PGRPRN": "paternal grandparent", "PGRFTH": "paternal grandfather", "PGRMTH": "paternal grandmother",
    "GGRFTH": "great grandfather", "GGRMTH": "great grandmother",
    "UNCLE": "uncle", "MUNCLE": "maternal uncle", "PUNCLE": "paternal uncle",
    "AUNT": "aunt", "MAUNT": "maternal aunt", "PAUNT": "paternal aunt",
    "COUSN": "cousin", "MCOUSN": "maternal cousin", "PCOUSN": "paternal cousin",
    "NEPHEW": "nephew", "NIECE": "niece", "GRNDCHILD": "grandchild", "GRNDSON": "grandson",
    "GRNDDAU": "granddaughter", "SPS": "spouse", "HUSB": "husband", "WIFE": "wife",
    "FTHINLAW": "father-in-law", "MTHINLAW": "mother-in-law",
}  # fmt: skip
_RELATIVES = {
    word: role
    for role, words in {
        "FTH": "父 父親 実父", "MTH": "母 母親 実母", "PRN": "親 両親 片親",
        "SIB": "同胞 兄弟 兄弟姉妹 きょうだい", "BRO": "兄 弟 実兄 実弟 長兄 次兄 末弟",
        "SIS": "姉 妹 姉妹 実姉 実妹 長姉 次姉 末妹",
        "TWIN": "双子 双生児", "CHILD": "子 子供 子ども 実子", "SONC": "息子 長男 次男 二男 三男 四男",
        "DAUC": "娘 長女 次女 二女 三女 四女", "GRPRN": "祖父母", "GRFTH": "祖父", "GRMTH": "祖母",
        "GGRFTH": "曽祖父 曾祖父", "GGRMTH": "曽祖母 曾祖母", "UNCLE": "叔父 伯父 おじ", "AUNT": "叔母 伯母 おば",
        "COUSN": "いとこ 従兄弟 従姉妹 従兄 従弟 従姉 従妹", "NEPHEW": "甥", "NIECE": "姪", "GRNDCHILD": "孫",
        "GRNDSON": "孫息子", "GRNDDAU": "孫娘", "SPS": "配偶者", "HUSB": "夫", "WIFE": "妻",
        "FTHINLAW": "義父 舅", "MTHINLAW": "義母 姑",
    }.items()
    for word in words.split()
}  # fmt: skip


def role_of(folded: str) -> str:
    """Code of a relative as written, width and case folded; FAMMEMB for what the list does not have."""
    word = folded.replace("の", "").replace("さん", "")
    side = {"父方": "P", "母方": "M"}.get(word[:2], "")
    role = _RELATIVES.get(word[2:] if side else word, "FAMMEMB")
    return side + role if side + role in ROLES else role

"""Results beside names: the code is that of the test that the unit, or the missing number, says was done."""

from datetime import date

import pytest

from app import standardize
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.record import Record
from schemas.statement import Action, Assertion, EvidenceSpan, Field, InfectionResult, Kind, Statement


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


def record(lexicon: Lexicon, kind: Kind, *, result: InfectionResult | None = None, **fields: str) -> Record:
    spans, at = {}, 0
    for name, quote in fields.items():
        if quote:
            spans[Field(name)] = EvidenceSpan(start=at, end=at + len(quote), quote=quote)
            at += len(quote)
    action = Action.PRESCRIBE if kind is Kind.PRESCRIPTION else None
    said = Statement(kind=kind, fields=spans, assertion=Assertion.PRESENT, result=result, action=action)
    return standardize.records([said], date(2026, 6, 1), lexicon)[0][0]


@pytest.mark.parametrize(
    ("name", "value", "unit", "test"),
    [
        ("PT", "12.3", "秒", "PT-秒"),
        ("PT", "98", "%", "PT-活性%"),
        ("PT", "1.05", "INR", "PT-INR"),
        ("PT", "1.05", "", None),  # seconds, per cent or INR?
        ("PT(秒)", "12.1", "", "PT-秒"),
        ("APTT", "98", "%", "APTT"),
        ("CRP", "0.1", "", "CRP"),
        ("CRP", "3", "mg/L", "CRP"),
        ("CRP", "(-)", "", "CRP-class"),
        ("CRP", "2+", "", None),
        ("CRP", "溶血のため測定不能", "", "CRP"),
        ("Dダイマー", "(-)", "", "DD-定性"),
        ("WBC", "8.2", "×10^3/μL", "WBC"),
        ("WBC", "8200", "/μL", "WBC"),
        ("WBC", "10", "/HPF", None),  # cells a field of view are of urine sediment
        ("WBC", "5-9", "/HPF", None),
        ("WBC", "3+", "", None),
        ("RBC", "450", "万/μL", "RBC"),
        ("Plt", "201", "10^9/L", "PLT"),
        ("Glu", "(-)", "", None),
        ("Glu", "6.7", "mmol/L", "BG"),
        ("Cr", "1.2", "g/日", None),
        ("尿蛋白", "(2+)", "", "U-TP"),
        ("尿蛋白", "30", "mg/dL", "U-TP-半定量"),
        ("尿蛋白", "0.5", "g/gCr", "U-P/C"),
        ("尿蛋白", "0.8", "g/日", None),
        ("尿蛋白", "30", "", None),
        ("尿糖", "500", "mg/dL", "U-Glu-半定量"),
        ("尿Alb", "30", "mg/gCr", "U-A/C"),
        ("尿Alb", "30", "mg/L", None),
        ("尿アルブミン", "30", "", None),
        ("ACR", "30", "", "U-A/C"),
        ("HbA1c", "55", "mmol/mol", "HbA1c-NGSP"),
    ],
)
def test_a_laboratory_result_is_of_the_test_that_its_unit_says(
    lexicon: Lexicon, name: str, value: str, unit: str, test: str | None
) -> None:
    made = record(lexicon, Kind.LAB, name=name, value=value, unit=unit)
    assert [coding.display for coding in made.codings] == ([test] if test else [])


@pytest.mark.parametrize(
    ("name", "value", "unit", "test"),
    [
        ("HBs抗原", "(-)", "", "HBs抗原(定性)"),
        ("HBs抗原", "0.01", "IU/mL", "HBs抗原(定量)"),
        ("HBs抗原", "0.1", "", None),
        ("HBs抗原", "0.1", "mg/dL", None),
        ("HBs抗体", "120", "mIU/mL", "HBs抗体(定量)"),
        ("HBs抗原(定量)", "陰性", "", "HBs抗原(定性)"),
        ("RPR", "8", "倍", "梅毒STS(定量)"),
        # An antibody alone is not the test of antibody and antigen.
        ("HIV抗体", "陰性", "", "HIV-1+2抗体(定性)"),
        ("HIV抗体", "0.1", "COI", "HIV-1+2抗体(コントロール比)"),
        ("HIV抗原抗体", "0.1", "COI", "HIV-1+2抗体・p24抗原(陽性コントロール比)"),
        ("B型肝炎抗体", "(-)", "", None),
    ],
)
def test_an_infection_result(lexicon: Lexicon, name: str, value: str, unit: str, test: str | None) -> None:
    made = record(lexicon, Kind.INFECTION, name=name, value=value, unit=unit)
    assert [coding.display for coding in made.codings] == ([test] if test else [])


@pytest.mark.parametrize(
    ("drug", "usage", "dose", "coded"),
    [
        ("アムロジピン", "朝食後", "5mg", "内服・経口・１日１回朝食後"),
        ("ラシックス", "朝食後", "20mg", "内服・経口・１日１回朝食後"),  # tablets and injections
        ("ラシックス注20mg", "朝食後", "1A", None),
        ("ノボラピッド", "毎食直前", "6単位", None),
        ("ノボラピッド", "毎食直前", "", None),
        ("ランタス", "就寝前", "10単位", None),
        ("インスリンアスパルト", "毎食直前", "", None),
        ("オゼンピック", "朝食後", "0.5mg", None),
        ("フォルテオ", "就寝前", "", None),
        ("知らない注射", "毎食直前", "6単位", None),
        ("名もない薬", "毎食直前", "6単位", None),
        ("ノイロトロピン", "分2 朝夕食後", "4錠", "内服・経口・１日２回朝夕食後"),
        ("モーラス", "就寝前", "1枚", None),
        ("ホクナリンテープ", "就寝前", "1枚", None),
        ("ニトロダームTTS", "朝食後", "1枚", None),
        ("ヒルドイド", "就寝前", "", None),
        ("シムビコート", "1日2回朝夕食後", "2吸入", None),
        ("アドエア", "1日2回朝夕食後", "", None),
        ("キサラタン", "就寝前", "1滴", None),
        ("キサラタン", "1日1回", "1滴", "１日１回　点眼"),
        ("ヒアレイン", "1日3回", "", "外用・点眼・１日３回"),
        ("テレミンソフト", "便秘時", "", "便秘時　肛門挿入"),
    ],
)
def test_only_what_is_swallowed_has_a_usage_by_mouth(
    lexicon: Lexicon, drug: str, usage: str, dose: str, coded: str | None
) -> None:
    dosage = record(lexicon, Kind.PRESCRIPTION, name=drug, dose=dose, usage=usage).dosage
    assert dosage is not None
    assert {coding.display for coding in dosage.usage} == ({coded} if coded else set())

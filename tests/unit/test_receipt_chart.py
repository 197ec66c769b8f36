"""Which passages of the chart stand beside which line of a claim."""

import io
from collections.abc import Sequence
from datetime import date

from app.receipts.chart import LONGEST, MOST, Entry, case
from app.receipts.check import check
from app.receipts.tables import Tables
from app.receipts.uke import Claim, read_uke
from schemas import systems
from schemas.coding import Coding
from schemas.receipt import Block
from schemas.record import Record
from schemas.statement import Action, Assertion, EvidenceSpan, Field, Kind, Statement

TABLES = Tables.starter()
TEXT = (
    "S) 咳が続く。Cr 0.8、CRP 陰性\n"
    "A) 肺炎疑いで胸部Xp。心不全は否定的。父が糖尿病。\n"
    "P) アムロジピンOD5mg 1錠 14日分　　心エコーは次回に延期した\n"
)


def record(kind: Kind, name: str, codings: Sequence[Coding] = (), **labels: object) -> Record:
    start = TEXT.index(name)
    span = EvidenceSpan(start=start, end=start + len(name), quote=name)
    statement = Statement(kind=kind, fields={Field.NAME: span}, **labels)  # type: ignore[arg-type]
    return Record(statement=statement, display=name, codings=tuple(codings))


def icd10(code: str) -> list[Coding]:
    return [Coding(system=systems.ICD10, code=code, display=code)]


RECORDS = (
    record(Kind.CONDITION, "肺炎", icd10("J18.9"), assertion=Assertion.SUSPECTED),
    record(Kind.CONDITION, "心不全", icd10("I50.9"), assertion=Assertion.ABSENT),
    record(Kind.CONDITION, "糖尿病", icd10("E14.9"), assertion=Assertion.FAMILY),
    record(
        Kind.PRESCRIPTION, "アムロジピンOD5mg", [Coding(system=systems.YJ, code="2171022F4020", display="x")],
        action=Action.CONTINUE,
    ),
)  # fmt: skip
ENTRY = Entry("n1", date(2026, 5, 7), TEXT, RECORDS)


def claim(*lines: str) -> Claim:
    rows = ["RE,1,1112,202605,見本　太郎,1,19700101,,,,,,,0012", *lines]
    (found,) = read_uke(io.BytesIO("".join(row + "\r\n" for row in rows).encode("cp932")))
    assert isinstance(found, Claim)
    return found


def blocks(*lines: str) -> list[Block]:
    one = claim(*lines)
    return list(case(one, check(one, TABLES), TABLES, [ENTRY]).blocks)


def said(block: Block) -> list[tuple[str, str]]:
    for passage in block.passages:
        assert TEXT[passage.start : passage.end] == passage.quote and len(passage.quote) <= LONGEST
    return [(passage.says, passage.quote) for passage in block.passages]


def disease(name: str) -> str:
    """The code of a disease of the starter's tables."""
    return next(code for code, row in TABLES.diseases.items() if row.name == name)


def drug(ingredient: str) -> str:
    return next(code for code, row in TABLES.drugs.items() if row.ingredient == ingredient)


def act(word: str) -> str:
    return next(key for key, words in TABLES.words.items() if word in words and key in TABLES.acts)


def test_a_disease_stands_beside_what_the_chart_says_of_it() -> None:
    pneumonia, failure, diabetes = blocks(
        f"SY,{disease('肺炎')},20260501,1", f"SY,{disease('心不全')},20260501,1", f"SY,{disease('２型糖尿病')},20260501,1"
    )
    assert ("傷病名・疑い/請求 確定", "A) 肺炎疑いで胸部Xp") in said(pneumonia)
    assert ("傷病名・否定/請求 確定", "心不全は否定的") in said(failure)
    assert all(says != "傷病名" for says, _ in said(diabetes))


def test_a_drug_stands_beside_its_prescription_by_ingredient() -> None:
    """What is claimed stands beside what is charted; what the chart does not say is a hyphen."""
    code = next(code for code, row in TABLES.drugs.items() if row.ingredient == "2171022" and "１０ｍｇ" in row.name)
    (found,) = blocks(f"IY,21,1,{code},1,2,28")
    assert said(found) == [("処方・継続 5mg -/請求 10mg 28日分 相違", "P) アムロジピンOD5mg 1錠 14日分")]


def test_an_act_stands_beside_the_clause_that_names_it() -> None:
    (found,) = blocks(f"SI,60,1,{act('心エコー')},,880,1")
    assert ("記載", "心エコーは次回に延期した") in said(found)


def test_a_latin_word_is_no_part_of_another() -> None:
    text = "CRP 陰性\nCr 0.8"
    one = claim(f"SI,60,1,{act('CRP')},,16,1", "SI,60,1,160019210,,11,1")
    crp, creatinine = case(one, (), TABLES, [Entry("n3", date(2026, 5, 9), text, ())]).blocks
    assert [passage.quote for passage in crp.passages] == ["CRP 陰性"]
    assert [passage.quote for passage in creatinine.passages] == ["Cr 0.8"]


def test_a_missing_disease_stands_beside_the_conditions_that_the_drug_is_for() -> None:
    """Without the finding a condition of the chart is none of the drug's business; with it, it may be the missing one."""
    subject = next(s for s, row in TABLES.indications.items() if row.kind == "drug" and "J18" in row.icd10)
    (found,) = blocks(f"IY,21,1,{drug(subject)},1,2,7")
    assert found.findings and ("傷病名・疑い", "A) 肺炎疑いで胸部Xp") in said(found)


def test_a_chart_that_says_much_is_cut_to_what_is_nearest() -> None:
    text = "\n".join(f"{n}日 心エコー施行" for n in range(1, 10))
    one = claim(f"SI,60,1,{act('心エコー')},,880,1")
    (found,) = case(one, (), TABLES, [Entry("n2", date(2026, 5, 9), text, ())]).blocks
    assert len(found.passages) == MOST


def test_a_claim_without_a_chart_is_a_case_too() -> None:
    one = claim(f"SY,{disease('肺炎')},20260501,1")
    found = case(one, (), TABLES, ())
    assert found.head == "男 56歳 入院外 2026年5月" and found.blocks[0].passages == ()

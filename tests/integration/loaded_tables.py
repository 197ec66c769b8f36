"""Small code masters put into a database as the importers store them: facts, and names made up where none is needed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, update

from app.db import Database
from app.terminology.spelling import key
from models import CodeSystemRelease, Concept, ImportState
from schemas import systems
from schemas.coding import Coding
from schemas.statement import Kind

PRICE_LIST = "urn:hyojun:mhlw-price-list"
AMLODIPINE = "2171022F1010"
TP, CRP = "3A010000002399901", "5C070000002399901"
HBS = "5F016000002399911"


def concept(
    kind: Kind | None,
    code: str,
    display: str,
    *codings: tuple[str, str, str],
    names: Sequence[str] = (),
    kana: str | None = None,
    **facts: str,
) -> dict[str, Any]:
    names = [display, *names]
    return {
        "code": code,
        "display": display,
        "kana": kana,
        "search_text": " ".join(key(name) for name in names),
        "properties": {
            "kind": kind,
            "names": names,
            "codings": [Coding(system=s, code=c, display=d).model_dump(exclude_none=True) for s, c, d in codings],
            "facts": facts,
        },
    }


def load(
    database: Database, system: str, version: str, concepts: Sequence[dict[str, Any]], *, active: bool = True
) -> None:
    """One release; an active one replaces the active one of its system."""
    with database.session_scope() as session:
        if active:
            mine = CodeSystemRelease.system == system
            session.execute(update(CodeSystemRelease).where(mine).values(active=False))
        release = CodeSystemRelease(
            system=system, version=version, fingerprint=version, kind="test", concepts=len(concepts),
            state=ImportState.READY, active=active,
        )  # fmt: skip
        session.add(release)
        session.flush()
        session.execute(insert(Concept), [row | {"release_id": release.id} for row in concepts])


def load_all(database: Database) -> None:
    """Diseases, shared tests, infections, JLAC10, food allergens; products with YJ codes inside another table."""

    def disease(code: str, name: str, icd: str, kana: str, *names: str, **facts: str) -> dict[str, Any]:
        codings = ((systems.DISEASE_KEY, code, name), (systems.ICD10, icd, name))
        return concept(Kind.CONDITION, code, name, *codings, names=names, kana=kana, **facts)

    diseases = [
        disease("20050001", "肺炎", "J189", "ハイエン"),
        disease("20050002", "誤嚥性肺炎", "J690", "ｺﾞｴﾝｾｲﾊｲｴﾝ"),
        disease("20050003", "肺炎球菌肺炎", "J13", "ハイエンキュウキンハイエン"),
        disease("20050004", "２型糖尿病", "E119", "ニガタトウニョウビョウ", "NIDDM"),
        disease("20050005", "２型糖尿病性腎症", "E112", "ニガタトウニョウビョウセイジンショウ"),
        disease("20050006", "糖尿病", "E119", "トウニョウビョウ", retired="true", successor="20050004"),
    ]
    load(database, systems.DISEASE_KEY, "5.17", diseases)

    def own(kind: Kind, system: str, code: str, display: str) -> dict[str, Any]:
        return concept(kind, code, display, (system, code, display))

    load(database, systems.CORE_LAB, "1.10.0", [own(Kind.LAB, systems.CORE_LAB, TP, "TP"), own(Kind.LAB, systems.CORE_LAB, CRP, "CRP")])
    load(database, systems.INFECTION_LAB, "1.10.0", [own(Kind.INFECTION, systems.INFECTION_LAB, HBS, "HBs抗原-定性")])
    load(
        database, systems.JLAC10, "2022-09", [own(Kind.LAB, systems.JLAC10, TP, "総蛋白_血清"), own(Kind.LAB, systems.JLAC10, CRP, "CRP_血清")]
    )
    load(database, systems.JFAGY_FOOD, "20250401", [own(Kind.ALLERGY, systems.JFAGY_FOOD, "J9FC11000000", "鶏卵")])
    product = "アムロジピン錠5mg「検査」"
    facts = {"ingredient": "アムロジピンベシル酸塩", "form": "錠"}
    load(database, PRICE_LIST, "20250401", [
        concept(Kind.PRESCRIPTION, AMLODIPINE, product, (systems.YJ, AMLODIPINE, product), **facts),
        concept(Kind.PRESCRIPTION, "2171022F1000", "【局】アムロジピン錠5mg"),
    ])  # fmt: skip

"""Speed of FHIR searches: `python -m bench.search [--resources N] [--searches N] [--folder DIR]`.

Fills an embedded PostgreSQL with N made-up resources (Observations of 60 tests, some of which are in every chart, Conditions,
MedicationRequests, Encounters; 100 a patient on average, some thousands for a few), their rows as the product's own indexer makes them, and asks.
Every question goes through `app.store.search`, reading the contents included, and finds what it should: the numbers are
checked against what was made. Prints results a page, and milliseconds (median, 95th and 99th percentile); writes
bench/results/search.json.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg

from app.db import Database, json_dumps, libpq_url, migrate
from app.embedded import embedded_postgres
from app.store import index, search
from app.store.values import values_of
from schemas.access import Principal, Scope

ROOT = Path(__file__).resolve().parents[1]
WHO = Principal(id="client:bench", name="bench", scopes=tuple(filter(None, [Scope.find("system/*.cruds")])))
LAB, DISEASE, DRUG = "urn:oid:1.2.392.200119.4.504", "http://hl7.org/fhir/sid/icd-10", "urn:oid:1.2.392.100495.20.1.73"
FIRST_DAY, DAYS = date(2019, 1, 1), 5 * 365
BATCH = 20_000
TABLES = ("resources", "search_entries", *index.VALUE_COLUMNS)
RESOURCE_COLUMNS = (
    "type", "id", "version", "ordinal", "patient_id", "content", "state", "method", "written_by", "created_at", "indexed",
)  # fmt: skip
ENTRY_COLUMNS = (
    "key", "type", "id", "version", "last_updated", "released", "newest", "patient", "dated_from", "dated_until",
)  # fmt: skip


@dataclass
class Made:
    """What was made, by which answers are checked."""

    patients: list[str] = field(default_factory=list)
    tests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Observations by patient and code."""
    types: Counter[str] = field(default_factory=Counter)
    days: dict[str, list[date]] = field(default_factory=lambda: defaultdict(list))
    """Of the Observations of a code."""


def resources(count: int, chance: random.Random, made: Made) -> Iterator[dict[str, Any]]:
    tests = [f"3D0{n:02}0000019{n % 9}27{n % 7}01" for n in range(60)]
    often = [1 / (n + 1) for n in range(len(tests))]
    left = count
    while left > 0:
        number = len(made.patients)
        id_ = f"pat-{number:08x}"
        made.patients.append(id_)
        # Most charts are short, few are very long (dialysis, oncology).
        size = min(left - 1, max(10, int(chance.lognormvariate(4.1, 1.0))))
        yield {
            "resourceType": "Patient", "id": id_, "gender": chance.choice(["male", "female"]),
            "identifier": [{"system": "urn:oid:1.2.392.100495.20.3.51.11310000001", "value": f"{number:010}"}],
            "name": [{"family": f"架空{number % 997}", "given": [f"花子{number % 31}"]}, {"family": "カクウ", "given": ["ハナコ"]}],
            "birthDate": (date(1930, 1, 1) + timedelta(days=chance.randrange(30_000))).isoformat(),
        }  # fmt: skip
        about = {"reference": f"Patient/{id_}"}
        for n in range(size):
            day = FIRST_DAY + timedelta(days=chance.randrange(DAYS))
            common = {"id": f"r-{number:08x}-{n}", "identifier": [{"system": "urn:emr", "value": f"{number}-{n}"}]}
            kind = chance.random()
            if kind < 0.68:
                code = chance.choices(tests, often)[0]
                made.tests[id_, code] += 1
                made.days[code].append(day)
                yield {
                    "resourceType": "Observation", **common, "status": "final", "subject": about,
                    "meta": {"profile": ["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Observation_LabResult"]},
                    "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
                    "code": {"coding": [{"system": LAB, "code": code, "display": "検査"}], "text": "検査"},
                    "effectiveDateTime": f"{day}T09:{n % 60:02}:00+09:00",
                    "valueQuantity": {"value": Decimal(chance.randrange(1000)) / 10, "unit": "mg/dL",
                                      "system": "http://unitsofmeasure.org", "code": "mg/dL"},
                }  # fmt: skip
            elif kind < 0.78:
                yield {
                    "resourceType": "Condition", **common, "subject": about, "recordedDate": day.isoformat(),
                    "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
                    "code": {"coding": [{"system": DISEASE, "code": f"{chance.choice('EIJKM')}{chance.randrange(99):02}"}]},
                    "onsetDateTime": str(day.year),
                }  # fmt: skip
            elif kind < 0.95:
                yield {
                    "resourceType": "MedicationRequest", **common, "status": "active", "intent": "order", "subject": about,
                    "authoredOn": day.isoformat(),
                    "medicationCodeableConcept": {"coding": [{"system": DRUG, "code": f"{chance.randrange(2000):012}"}]},
                }  # fmt: skip
            else:
                yield {
                    "resourceType": "Encounter", **common, "status": "finished", "subject": about,
                    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
                    "period": {"start": day.isoformat(), "end": day.isoformat()},
                }  # fmt: skip
        left -= size + 1


def fill(url: str, count: int, made: Made) -> None:
    """By COPY, and everything else as the product would write it."""
    started, chance = datetime.now(UTC), random.Random(0)
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
    with psycopg.connect(libpq_url(url)) as connection, connection.cursor() as cursor:

        def write() -> None:
            for table in TABLES:
                columns = {"resources": RESOURCE_COLUMNS, "search_entries": ENTRY_COLUMNS}.get(table) or tuple(index.VALUE_COLUMNS[table])
                with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                    for row in rows[table]:
                        copy.write_row(row)
                rows[table].clear()
            connection.commit()

        for key, content in enumerate(resources(count, chance, made), 1):
            type_, id_, at = content["resourceType"], content["id"], started + timedelta(milliseconds=key)
            made.types[type_] += 1
            rows["resources"].append((type_, id_, 1, 0, "", json_dumps(content), "final", "PUT", WHO.id, at, True))
            values = values_of(content)
            row = SimpleNamespace(type=type_, id=id_, version=1, last_updated=at, released=True, newest=True)
            rows["search_entries"].append((key, *index.entry_of(row, values)))
            for table, own in index.rows_of(key, values).items():
                rows[table] += own
            if key % BATCH == 0:
                write()
                print(f"\r{key:,} of {count:,}", end="", file=sys.stderr)
        write()
        cursor.execute(f"SELECT setval(pg_get_serial_sequence('search_entries', 'key'), {key})")
        connection.commit()
        connection.autocommit = True
        for table in TABLES:
            cursor.execute(f"VACUUM (ANALYZE) {table}")
    print(file=sys.stderr)


def questions(made: Made, chance: random.Random) -> dict[str, Callable[[], tuple[str, str, int | None]]]:
    """By name, what makes one: type, parameters, and how many it must find in all; None: not known here."""
    known = list(made.tests)
    codes = sorted({code for _, code in known})

    def day() -> date:
        return FIRST_DAY + timedelta(days=chance.randrange(DAYS))

    def patient_code_date() -> tuple[str, str, int | None]:
        patient, code = chance.choice(known)
        return "Observation", f"patient={patient}&code={LAB}|{code}&date=ge{FIRST_DAY}&date=lt2024-01-01", made.tests[patient, code]

    def chained() -> tuple[str, str, int | None]:
        patient, code = chance.choice(known)
        number = f"{int(patient[4:], 16):010}"
        return "Observation", f"patient.identifier=urn:oid:1.2.392.100495.20.3.51.11310000001|{number}&code={code}", made.tests[patient, code]

    def code_date_sorted() -> tuple[str, str, int | None]:
        code, first = chance.choice(codes), day()
        until = first + timedelta(days=90)
        found = sum(first <= one < until for one in made.days[code])
        return "Observation", f"code={LAB}|{code}&date=ge{first}&date=lt{until}&_sort=-date&_count=20", found

    def patient_sorted() -> tuple[str, str, int | None]:
        return "Observation", f"patient={chance.choice(made.patients)}&_sort=-date&_count=20", None

    return {
        "patient + code + date": patient_code_date,
        "patient": lambda: ("Condition", f"patient={chance.choice(made.patients)}", None),
        "patient, newest first": patient_sorted,
        "patient.identifier + code": chained,
        "code + date, newest 20": code_date_sorted,
        "identifier": lambda: ("Observation", f"identifier=urn:emr|{chance.randrange(len(made.patients))}-0", None),
        "patient by name": lambda: ("Patient", f"name=架空{chance.randrange(997)}&_count=20", None),
        "_lastUpdated, oldest 50": lambda: ("MedicationRequest", "_lastUpdated=ge2020-01-01&_sort=_lastUpdated&_count=50", None),
        "type alone, first 50": lambda: ("Observation", "_count=50&_total=none", None),
        "newest 20 of a type": lambda: ("Observation", "_sort=-date&_count=20&_total=none", None),
        "_has": lambda: ("Patient", f"_has:Observation:patient:identifier=urn:emr|{chance.randrange(len(made.patients))}-0", None),
        "with Patient and Encounters": lambda: (
            "Condition", f"patient={chance.choice(made.patients)}&_include=Condition:patient&_revinclude:iterate=Encounter:patient", None,
        ),
    }  # fmt: skip


def measured(database: Database, made: Made, searches: int) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for name, make in questions(made, random.Random(1)).items():
        times, found = [], []
        for n in range(searches + 10):
            type_, asked, expected = make()
            pairs = [(part.split("=", 1)[0], part.split("=", 1)[1]) for part in asked.split("&")]
            started = time.perf_counter()
            with database.session_scope() as session:
                page = search.search(session, search.parse(type_, pairs, strict=True), WHO)
            if n >= 10:  # the first ones warm the connection
                times.append(time.perf_counter() - started)
                found.append(len(page.matches) + len(page.included))
            if expected is not None and page.total != (expected if expected <= search.COUNTED else None):
                sys.exit(f"{name}: found {page.total}, and {expected} were made: {asked}")
        ordered = sorted(times)
        table[name] = {
            "results": round(statistics.fmean(found), 1),
            **{f"p{p}_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] * 1000, 2) for p in (50, 95, 99)},
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resources", type=int, default=1_000_000)
    parser.add_argument("--searches", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where the database is made, and used again; default, a temporary one")
    args = parser.parse_args()
    made = Made()
    with ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hyojun-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        url = stack.enter_context(embedded_postgres(folder / "data"))
        migrate(url)
        database = Database(url)
        started = time.perf_counter()
        with database.session_scope() as session:
            there = session.connection().exec_driver_sql("SELECT count(*) FROM search_entries").scalar_one()
        if there == args.resources:
            for content in resources(args.resources, random.Random(0), made):
                made.types[content["resourceType"]] += 1
        elif there:
            sys.exit(f"{folder} holds {there} resources, not {args.resources}; choose another folder")
        else:
            fill(url, args.resources, made)
        filled = time.perf_counter() - started
        with database.session_scope() as session:
            session.connection().exec_driver_sql("CHECKPOINT")
            sizes = {
                name: session.connection().exec_driver_sql(f"SELECT pg_total_relation_size('{name}')").scalar_one() // 2**20
                for name in TABLES
            }
        before = os.getloadavg()[0]
        table = measured(database, made, args.searches)
        database.dispose()
    print(f"{sum(made.types.values()):,} resources, {len(made.patients):,} patients, {os.cpu_count()} cores; filled in {filled:.0f} s")
    print(f"load of the machine before and after: {before:.1f} {os.getloadavg()[0]:.1f}")
    print("MiB with indexes: " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
    print(f"{'':30}{'results':>9}{'p50':>9}{'p95':>9}{'p99':>9}   ms")
    for name, row in table.items():
        print(f"{name:30}{row['results']:>9}{row['p50_ms']:>9}{row['p95_ms']:>9}{row['p99_ms']:>9}")
    out = ROOT / "bench" / "results"
    out.mkdir(exist_ok=True)
    facts = {
        "resources": dict(made.types), "patients": len(made.patients), "cores": os.cpu_count(),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)], "mib": sizes, "searches": table,
    }  # fmt: skip
    (out / "search.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()

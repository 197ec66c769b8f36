"""Speed of the SS-MIX2 storage: `python -m bench.ssmix2 [--messages N] [--patients P] [--folder DIR]`.

First fills a standardized storage with P patients of one message each, then writes N messages in one run: ten of each of N/10
new patients (two undated ones, six of six days, two updates). Everything is on: file
synced to the disk, journal, index. Prints messages a second, bytes, and milliseconds of a message (mean, median and 99th
percentile) for the first and the last tenth, with how many patients the root held then; the last tenth must not be slower.
Writes bench/results/ssmix2.json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from app import ssmix2
from app.ssmix2 import DataKind, Facility, Message
from schemas.note import ChartNote, DocumentType, Patient
from schemas.record import Record
from schemas.statement import EvidenceSpan, Field, Kind, Statement

ROOT = Path(__file__).resolve().parents[1]
FACILITY = Facility("架空総合病院", institution_number="1310000001", department_code="01")
SENT_AT = datetime(2026, 4, 1, 0, 0, tzinfo=UTC)
NAMES = ["２型糖尿病", "高血圧症", "脂質異常症", "慢性胃炎", "気管支喘息", "骨粗鬆症", "変形性膝関節症", "鉄欠乏性貧血"]


def of_note() -> list[Message]:
    """Messages of one made-up note with eight diseases, as long as real ones are."""
    text = "、".join(NAMES)
    patient = Patient(id="0000000000", family="見本", given="花子", birth_date=date(1958, 3, 14))
    note = ChartNote(
        id="n-1",
        document_type=DocumentType.PROGRESS,
        department="内科",
        date=date(2026, 4, 1),
        patient=patient,
        text=text,
    )
    records = []
    for name in NAMES:
        start = text.index(name)
        span = EvidenceSpan(start=start, end=start + len(name), quote=name)
        records.append(Record(statement=Statement(kind=Kind.CONDITION, fields={Field.NAME: span}), display=name))
    made, _ = ssmix2.messages(note, records, facility=FACILITY, sent_at=SENT_AT, source="bench")
    return made


def messages(count: int) -> Iterator[Message]:
    """Ten of each patient: two undated ones, six dated ones of six days, and both undated ones again, changed."""
    basic, diseases = of_note()
    for n in range(count):
        patient, place = f"{n // 10 + 1:010}", n % 10
        like = diseases if place % 2 else basic
        text = like.text.replace("0000000000", patient)
        if 2 <= place < 8:
            day = date(2026, 4, 1) + timedelta(days=place)
            yield Message(DataKind.RESULT, patient, day, f"{n + 1:015}", "01", text)
        else:
            yield replace(
                like, patient_id=patient, text=text.replace("|P|2.5", f"|P|2.5|{place}") if place >= 8 else text
            )


def summary(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "mean_ms": round(statistics.fmean(ordered) * 1000, 3),
        "median_ms": round(statistics.median(ordered) * 1000, 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 3),
    }


def measured(root: Path, count: int, patients: int) -> dict[str, Any]:
    (basic, _) = of_note()
    for n in range(
        patients
    ):  # as another program may have filled it: the storage knows no more of them than their files
        one = f"{n % 1000:03}{n // 1000 % 1000:03}A{n:07}"
        path = root / ssmix2.path_of(replace(basic, patient_id=one), SENT_AT)
        path.parent.mkdir(parents=True)
        path.write_bytes(ssmix2.encode(basic.text.replace("0000000000", one)))
    os.sync()  # else the first messages wait for what was just filled in
    times, size = [], 0
    for n, message in enumerate(messages(count)):
        started = time.perf_counter()
        path = ssmix2.write(root, message, SENT_AT + timedelta(milliseconds=n))
        times.append(time.perf_counter() - started)
        size += path.stat().st_size
    tenth = max(1, count // 10)
    held = len(list(root.glob("*/*/*")))
    return {
        "messages": count,
        "bytes": size,
        "patients_at_start": patients,
        "patients_at_end": held,
        "per_second": round(count / sum(times), 1),
        "first": {"messages": tenth, **summary(times[:tenth])},
        "last": {"messages": tenth, **summary(times[-tenth:])},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--patients", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default, a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        found = measured(Path(folder) / "ssmix2", args.messages, args.patients)
    print(f"{found['messages']} messages, {found['bytes']:,} bytes, {found['per_second']} a second")
    print(f"{'':8}{'patients':>10}{'mean':>9}{'median':>9}{'p99':>9}   ms a message")
    for name, held in (("first", found["patients_at_start"]), ("last", found["patients_at_end"])):
        row = found[name]
        print(f"{name:8}{held:>10}{row['mean_ms']:>9}{row['median_ms']:>9}{row['p99_ms']:>9}")
    out = ROOT / "bench" / "results"
    out.mkdir(exist_ok=True)
    (out / "ssmix2.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The standardized storage on a real disk: names, update, deletion, two writers at once, and kill -9 at every step."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from app.errors import InvalidInput, NotFound
from app.ssmix2 import DataKind, Facility, Message, decode, delete, parse, path_of, patient_message, repair, write
from schemas.note import ChartNote, DocumentType, Patient

SENT_AT = datetime(2026, 4, 1, 1, 15, 30, 123_456, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def a_message(text: str = "1") -> Message:
    """A result message of one order; `text` tells one version from another."""
    line = f"MSH|^~\\&|A|糖尿病^{text}\rORC|NW|000000000000501\r"
    return Message(DataKind.RESULT, "0000012345", date(2026, 4, 1), "000000000000501", "01", line)


def folder(root: Path) -> Path:
    return root / "000/001/0000012345/20260401/OML-11"


def names(root: Path) -> list[str]:
    return sorted(path.name for path in folder(root).iterdir())


def flags(root: Path) -> list[str]:
    return [name[-1] for name in names(root)]


def content(root: Path, flag: str) -> list[str]:
    """Versions of `a_message` with `flag`, oldest first."""
    paths = sorted(path for path in folder(root).iterdir() if path.name.endswith(f"_{flag}"))
    return [parse(decode(path.read_bytes()))[0].get(4, 2) for path in paths]


# --- names ---


def test_paths() -> None:
    name = "0000012345_20260401_OML-11_000000000000501_20260401101530123_01_1"
    assert str(path_of(a_message(), SENT_AT)) == f"000/001/0000012345/20260401/OML-11/{name}"
    person = Patient(id="ABC4567", family="見本", given="花子", birth_date=date(1958, 3, 14))
    note = ChartNote(
        id="n", document_type=DocumentType.PROGRESS, department="内科", date=date(2026, 4, 1), patient=person, text="x"
    )
    message = patient_message(note, Facility("見本病院", department_code="01"), control_id="1", sent_at=SENT_AT)
    name = "ABC4567_-_ADT-00_999999999999999_20260401101530123_-_1"
    assert str(path_of(message, SENT_AT)) == f"ABC/456/ABC4567/-/ADT-00/{name}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"patient_id": "123456"},
        {"patient_id": "../../etc"},
        {"order_no": "501"},
        {"department": "内科"},
        {"department": "a/b"},
    ],
)
def test_a_name_outside_the_grammar_is_refused(wrong: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="file name"):
        write(tmp_path, replace(a_message(), **wrong), SENT_AT)
    assert list(tmp_path.iterdir()) == []


# --- update and deletion ---


def test_write_and_update(tmp_path: Path) -> None:
    first = write(tmp_path, a_message("1"), SENT_AT)
    assert first == tmp_path / path_of(a_message(), SENT_AT)
    assert first.read_bytes() == b'MSH|^~\\&|A|\x1b$BE|G"IB\x1b(B^1\rORC|NW|000000000000501\r'
    second = write(tmp_path, a_message("2"), SENT_AT + timedelta(seconds=1))
    write(tmp_path, a_message("3"), SENT_AT + timedelta(seconds=2))
    assert flags(tmp_path) == ["2", "2", "1"]
    assert not second.exists()
    assert (content(tmp_path, "2"), content(tmp_path, "1")) == (["1", "2"], ["3"])


def test_the_same_bytes_again_change_nothing(tmp_path: Path) -> None:
    first = write(tmp_path, a_message(), SENT_AT)
    assert write(tmp_path, a_message(), SENT_AT + timedelta(seconds=5)) == first
    assert names(tmp_path) == [first.name]


def test_a_taken_name_moves_on_by_a_millisecond(tmp_path: Path) -> None:
    last_of_the_second = SENT_AT.replace(microsecond=999_000)
    paths = [write(tmp_path, a_message(str(n)), last_of_the_second) for n in range(3)]
    assert [path.name.split("_")[4] for path in paths] == [
        "20260401101530999",
        "20260401101531000",
        "20260401101531001",
    ]
    assert (content(tmp_path, "2"), content(tmp_path, "1")) == (["0", "1"], ["2"])


def test_another_order_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, a_message("1"), SENT_AT)
    write(tmp_path, replace(a_message("2"), order_no="000000000000502"), SENT_AT)
    assert flags(tmp_path) == ["1", "1"]


def test_delete(tmp_path: Path) -> None:
    write(tmp_path, a_message("1"), SENT_AT)
    write(tmp_path, a_message("2"), SENT_AT + timedelta(seconds=1))
    later = SENT_AT + timedelta(seconds=2)
    path = delete(tmp_path, a_message("2"), later, control_id="C1")
    assert flags(tmp_path) == ["0", "0", "0"]
    assert path.name.endswith("_20260401101532123_01_0")
    segments = parse(decode(path.read_bytes()))
    assert (segments[0].get(10), segments[1].get(1)) == ("C1", "CA")
    # A repeated request finds its own cancel message; a new order may follow.
    assert delete(tmp_path, a_message("2"), later, control_id="C1") == path
    write(tmp_path, a_message("3"), SENT_AT + timedelta(seconds=3))
    assert flags(tmp_path) == ["0", "0", "0", "1"]


def test_nothing_to_delete(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        delete(tmp_path, a_message(), SENT_AT, control_id="C1")
    write(tmp_path, a_message(), SENT_AT)
    with pytest.raises(NotFound):
        delete(tmp_path, replace(a_message(), order_no="000000000000502"), SENT_AT, control_id="C1")
    assert flags(tmp_path) == ["1"]


def test_text_that_was_not_folded_leaves_the_former_file(tmp_path: Path) -> None:
    write(tmp_path, a_message("1"), SENT_AT)
    with pytest.raises(InvalidInput, match="fold first"):
        write(tmp_path, a_message("①"), SENT_AT)
    assert content(tmp_path, "1") == ["1"]


def test_two_current_files_of_another_writer_are_mended(tmp_path: Path) -> None:
    older = write(tmp_path, a_message("1"), SENT_AT)
    newer = older.with_name(older.name.replace("101530123", "101530999"))
    newer.write_bytes(older.read_bytes().replace(b"^1\r", b"^2\r"))
    repair(tmp_path, "0000012345")
    assert (content(tmp_path, "2"), content(tmp_path, "1")) == (["1"], ["2"])


# --- several processes ---

CHILD = """
import os, signal, sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from app.ssmix2 import DataKind, Message, delete, write

root, writer, count, kill_at, task = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
seen = 0

def die(event, args):
    # Dies before the kill_at-th change of the disk: a file made, renamed or removed.
    global seen
    if event in ("os.rename", "os.remove") or (event == "open" and args[2] & os.O_CREAT and ".part" in str(args[0])):
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
sent_at = datetime(2026, 4, 1, 1, 15, 40, tzinfo=timezone.utc)
print("ready", flush=True)
for number in range(count):
    line = f"MSH|^~\\\\&|A|糖尿病^{writer}{number}\\rORC|NW|000000000000501\\r"
    message = Message(DataKind.RESULT, "0000012345", date(2026, 4, 1), "000000000000501", "01", line)
    if task == "delete":
        delete(root, message, sent_at, control_id="C1")
    else:
        write(root, message, sent_at)
"""


def start(root: Path, writer: str, count: int, kill_at: int = 0, task: str = "write") -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", CHILD, str(root), writer, str(count), str(kill_at), task]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_write_the_same_key_50_times_each(tmp_path: Path) -> None:
    writers = [start(tmp_path, name, 50) for name in "ab"]
    most = 0
    while any(writer.poll() is None for writer in writers):
        if folder(tmp_path).is_dir():
            most = max(most, sum(name.endswith("_1") for name in names(tmp_path)))
        time.sleep(0.005)
    assert [writer.wait() for writer in writers] == [0, 0]
    for writer in writers:
        writer.communicate()
    assert flags(tmp_path).count("1") == 1
    versions = content(tmp_path, "2") + content(tmp_path, "1")
    assert sorted(versions) == sorted(f"{name}{number}" for name in "ab" for number in range(50))
    # Each writer's own order is kept: the storage's times rise with the order of writing.
    assert all([v for v in versions if v[0] == name] == [f"{name}{n}" for n in range(50)] for name in "ab")
    assert most <= 1


# Changes of one write over a current file: make .part, .part -> .ready, _1 -> _2, .ready -> name.
@pytest.mark.parametrize(
    ("kill_at", "left", "repaired"),
    [
        (1, ["1"], "0"),
        (2, [".part", "1"], "0"),
        (3, [".ready", "1"], "k0"),
        (4, [".ready", "2"], "k0"),
    ],
)
@pytest.mark.parametrize("mend", ["repair", "write"])
def test_write_killed_at_every_step(tmp_path: Path, kill_at: int, left: list[str], repaired: str, mend: str) -> None:
    write(tmp_path, a_message("0"), SENT_AT)
    child = start(tmp_path, "k", 1, kill_at)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    endings = [name[name.rfind(".") :] if name[0] == "." else name[-1] for name in names(tmp_path)]
    assert endings == left
    if mend == "repair":
        repair(tmp_path, "0000012345")
        assert content(tmp_path, "1") == [repaired]
    else:
        write(tmp_path, a_message("9"), SENT_AT + timedelta(minutes=1))
        assert content(tmp_path, "1") == ["9"]
        assert content(tmp_path, "2")[-1] == repaired
    assert content(tmp_path, "2")[:1] == (["0"] if repaired == "k0" or mend == "write" else [])
    assert not any(name.startswith(".") for name in names(tmp_path))


# Changes of one deletion of a current and a former file: .part, .ready, _1 and _2 -> _0, .ready -> name.
@pytest.mark.parametrize("kill_at", [1, 2, 3, 4, 5])
def test_delete_killed_at_every_step(tmp_path: Path, kill_at: int) -> None:
    write(tmp_path, a_message("0"), SENT_AT)
    write(tmp_path, a_message("1"), SENT_AT + timedelta(seconds=1))
    child = start(tmp_path, "k", 1, kill_at, "delete")
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert flags(tmp_path).count("1") <= 1
    repair(tmp_path, "0000012345")
    # Before the cancel message was whole nothing has happened; afterwards the deletion is finished.
    assert flags(tmp_path) == (["2", "1"] if kill_at <= 2 else ["0", "0", "0"])
    if kill_at <= 2:
        delete(tmp_path, a_message("1"), SENT_AT + timedelta(minutes=1), control_id="C2")
    assert set(flags(tmp_path)) == {"0"}


@pytest.mark.slow
def test_killed_at_any_moment_and_written_again(tmp_path: Path) -> None:
    for turn in range(6):
        child = start(tmp_path, f"t{turn}x", 1000)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        while child.poll() is None and len(list(tmp_path.rglob("*_2"))) < 3 * (turn + 1):
            time.sleep(0.001 * (turn + 1))
        child.kill()
        child.communicate()
        assert sum(name.endswith("_1") for name in names(tmp_path)) <= 1
        write(tmp_path, a_message(f"w{turn}"), SENT_AT + timedelta(seconds=turn))
        assert content(tmp_path, "1") == [f"w{turn}"]
        assert not any(name.startswith(".") for name in names(tmp_path))


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    write(tmp_path, a_message("0"), SENT_AT)
    child = start(tmp_path, "k", 1, 3)
    child.communicate()
    other = start(tmp_path, "o", 1)
    assert other.wait(timeout=60) == 0
    other.communicate()
    assert content(tmp_path, "1") == ["o0"]

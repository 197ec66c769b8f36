"""The judge of `nho_rules`: no fault in the worked storage, and each deliberate damage to it is found by its own rule."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from nho_rules import Fault, check_storage
from published import STANDARDS

WORKED = STANDARDS / "ssmix2" / "worked_storage"
pytestmark = pytest.mark.skipif(not WORKED.is_dir(), reason="no worked storage (HYOJUN_STANDARDS)")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    shutil.copytree(WORKED, tmp_path / "root")
    return tmp_path / "root"


def test_the_worked_storage_has_no_fault(storage: Path) -> None:
    assert check_storage(storage) == []


# Kind, what is written instead of what (a regular expression, the first place), and the fault that must be found.
DAMAGED_TEXT = [
    ("ADT-00", r"~ISO IR87", "~ISOIR87", "MSH-18"),
    ("ADT-00", r"ISO 2022-1994", "ISO2022-1994", "MSH-20"),
    ("ADT-00", r"\|2\.5\|", "|2.4|", "MSH-12"),
    ("ADT-00", r"\|P\|2\.5", "|T|2.5", "MSH-11"),
    ("ADT-00", r"MSH\|\^~\\&", r"MSH|^~\\#", "MSH-2"),
    ("ADT-00", r"ADT\^A08\^ADT_A01", "ADT^A08", "MSH-9"),
    ("ADT-00", r"20260401000000000001", "202604010000000000011", "MSH-10"),
    ("ADT-00", r"20260401101530\.123\|\|", "20260431101530.123||", "MSH-7"),
    ("ADT-00", r"\|\|ADT\^", "|x|ADT^", "MSH-8"),
    ("ADT-00", r"SS-MIX2_1\.20\^", "SS-MIX2^", "MSH-21"),
    ("ADT-00", r"EVN\|\|\d{14}", "EVN||", "EVN-2"),
    ("ADT-00", r"(EVN\|\|\d{14}\|)", r"\g<1>20260401", "EVN-3"),
    ("ADT-00", r"0000012345\^\^\^\^PI", "0000012346^^^^PI", "PID-3"),
    ("ADT-00", r"\^\^\^\^PI", "", "PID-3"),
    ("ADT-00", r"花子\^\^\^\^\^L", "花子^^^^L", "PID-5"),
    ("ADT-00", r"\|19580314\|", "|1958|", "PID-7"),
    ("ADT-00", r"\|F\|\|", "|W||", "PID-8"),
    ("ADT-00", r"\|20260401101530\rNK1", "\rNK1", "PID-33"),
    ("ADT-00", r"(PV1\|0001\|)O", r"\1E", "PV1-2"),
    ("ADT-00", r"01\^\^\^\^\^C", "01", "PV1-3"),
    ("ADT-00", r"\|NM\|(9N001)", r"|SN|\1", "OBX-2"),
    ("ADT-00", r"\|\|152\.0\|", "||152.0cm|", "OBX-5"),
    ("ADT-00", r"9N001000000000001", "9N0010000000", "OBX-3"),
    ("ADT-00", r"AL1\|1", "AL1|2", "AL1-1"),
    ("ADT-00", r"\|L0007\^ペニシリン系\^99CHT", "|L0007^ペニシリン系", "AL1-3"),
    ("ADT-00", r"(D0001\^見本\^医師\^)\^", r"\1", "PV1-7"),
    ("ADT-00", r"~ミホン", "~ミホン^ハナコ^^^^^L^I~ミホン", "PID-5"),
    ("ADT-00", r"\^PRN\^PH\^+", "", "PID-13"),
    ("ADT-12", r"\d{14}\r$", "20260402093000\r", "PV1-44"),
    ("ADT-61", r"106824501\^アリナミン\^HOT9", "10682450^アリナミン^HOT9", "IAM-3"),
    ("ADT-61", r"\^HOT9", "^HOTX", "IAM-3"),
    ("ADT-61", r"MO\^中等度", "XX^中等度", "IAM-4"),
    ("ADT-61", r"\|発疹\|", "|全身に広がる発疹と強いかゆみと発熱|", "IAM-5"),
    ("ADT-61", r"A\^追加\^HL70323", "", "IAM-6"),
    ("ADT-61", r"A\^追加\^HL70323", "D^削除^HL70323", "IAM-6"),
    ("ADT-61", r"CHTALG0002", "CHTALG0001", "IAM-7"),
    ("ADT-61", r"\|20250710\|", "|202507|", "IAM-11"),
    ("ADT-61", r"AL\^アレルギー\^HL70436", "ZZ^アレルギー^HL70436", "IAM-9"),
    ("ADT-61", r"IAM\|3", "IAM|4", "IAM-1"),
    ("PPR-01", r"PRB\|AD", "PRB|DE", "PRB-1"),
    ("PPR-01", r"20054174\^胃炎\^MDCDX2", "K29^胃炎^MDCDX2", "PRB-3"),
    ("PPR-01", r"CHTPRB000002", "CHTPRB000001", "PRB-4"),
    ("PPR-01", r"K297\^", "K29.7^", "PRB-10"),
    ("PPR-01", r"\^O\^外来時", "^X^外来時", "PRB-10"),
    ("PPR-01", r"JHSD0004\^2013", "JHSD0004^2016", "PRB-10"),
    ("PPR-01", r"1\^疑いあり\^JHSD0005", "1", "PRB-13"),
    ("PPR-01", r"F\^完全に回復した\^HL70241", "Q^？^HL70241", "PRB-14"),
    ("PPR-01", r"３月下旬より心窩部痛", "痛" * 81, "PRB-17"),
    ("PPR-01", r"ZPR\|\|20054174\^胃炎\^MDCDX2", "ZPR|x", "ZPR-2"),
    ("OMP-01", r"000000000000301\|\|000000000000301_01_001", "000000000000999||000000000000999_01_001", "ORC-2"),
    ("OMP-01", r"\|000000000000301_01_001", "|", "ORC-4"),
    ("OMP-01", r"301_02_001", "301_01_001", "ORC-4"),
    ("OMP-01", r"\|20260401101530\|D0001", "|20260402101530|D0001", "ORC-9"),
    ("OMP-01", r"ORC\|NW", "ORC|CA", "ORC-1"),
    ("OMP-01", r"PV1\|\|O", "PV1|0001|O", "PV1-1"),
    ("OMP-01", r"\|9\|TAB\^錠\^MR9P", "||TAB^錠^MR9P", "RXE-10"),
    ("OMP-01", r"\|1\|\|TAB\^錠\^MR9P", "|1錠||TAB^錠^MR9P", "RXE-3"),
    ("OMP-01", r'\|""\|\|""', '|""||TAB^錠^MR9P', "RXE-5"),
    ("OMP-01", r"\^JHSP0003", "^JHSP9", "RXE-27"),
    ("OMP-01", r"1013044400000000", "1013044", "TQ1-3"),
    ("OMP-01", r"\|3\^D&日&ISO\+", "|3日", "TQ1-6"),
    ("OMP-01", r"RXR\|PO\^口\^HL70162", "RXR|", "RXR-1"),
    ("OMP-02", r"RXC\|B", "RXC|C", "RXC-1"),
    ("OMP-02", r"\|HON\^本\^MR9P", "", "RXC-4"),
    ("OML-01", r"TQ1\|1", "TQ1|2", "TQ1-1"),
    ("OML-01", r"\|O\r$", "|F\r", "OBX-11"),
    ("OML-11", r"023\^血清\^JC10", "23^血清^JC10", "SPM-4"),
    ("OML-11", r"\|202604010915\r", "|202604020915\r", "SPM-17"),
    ("OML-11", r"3\^生化学的検査\^JC10", "", "OBR-4"),
    ("OML-11", r"\|\|14\|", "|||", "OBX-5"),
    ("OML-11", r"\|F\|\|\|", "||||", "OBX-11"),
    ("OML-11", r"mg/dL\^mg/dL\^ISO\+", "mg／dL^mg/dL^ISO+", "OBX-6"),
    ("OML-11", r"\|H\|\|\|F", "|HIGHER|||F", "OBX-8"),
    ("OML-11", r"\|8-38\|", "|" + "8" * 61 + "|", "OBX-7"),
    ("OML-11", r"AST\(GOT\)", r"AST\\GOT", "OBX-3"),
]


@pytest.mark.parametrize(("kind", "was", "becomes", "field"), DAMAGED_TEXT, ids=lambda value: str(value)[:24])
def test_damaged_fields_are_found(storage: Path, kind: str, was: str, becomes: str, field: str) -> None:
    path = sorted(storage.rglob(f"*_{kind}_*_1"))[0]
    text = path.read_bytes().decode("iso2022_jp")
    damaged, count = re.subn(was, becomes, text, count=1)
    assert (count, damaged != text) == (1, True)
    path.write_bytes(damaged.encode("iso2022_jp"))
    found = check_storage(storage)
    assert any(fault.field == field and fault.path.endswith(path.name) for fault in found), found


DAMAGED_BYTES: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("LF", lambda data: data.replace(b"\r", b"\n"), "CR alone"),
    ("CR LF", lambda data: data.replace(b"\r", b"\r\n"), "CR alone"),
    ("no CR at the end", lambda data: data[:-1], "ends with CR"),
    ("UTF-8", lambda data: data.decode("iso2022_jp").encode(), "ASCII and ESC"),
    ("Shift JIS", lambda data: data.decode("iso2022_jp").encode("cp932"), "ASCII and ESC"),
    ("JIS X 0201 Roman", lambda data: data.replace(b"\x1b(B", b"\x1b(J", 1), "ASCII and ESC"),
    ("JIS X 0201 kana", lambda data: data.replace(b"\x1b$B", b"\x1b(I", 1), "ASCII and ESC"),
    ("JIS C 6226-1978", lambda data: data.replace(b"\x1b$B", b"\x1b$@", 1), "ASCII and ESC"),
    ("JIS X 0212", lambda data: data.replace(b"\x1b$B", b"\x1b$(D", 1), "ASCII and ESC"),
    ("not back in ASCII", lambda data: data.replace(b"\x1b(B^", b"^\x1b(B", 1), "ASCII and ESC"),
    ("row 13", lambda data: re.sub(rb"\x1b\$B..", b"\x1b$B\x2d\x21", data, count=1), "outside JIS X 0208"),
    ("IBM row", lambda data: re.sub(rb"\x1b\$B..", b"\x1b$B\x7c\x21", data, count=1), "outside JIS X 0208"),
    ("tab", lambda data: data.replace(b"CHARTX", b"CHA\tTX"), "ASCII and ESC"),
    ("BOM", lambda data: b"\xef\xbb\xbf" + data, "ASCII and ESC"),
    ("order of segments", lambda data: b"\r".join([*sorted(data.split(b"\r")[:-1]), b""]), "in its order"),
    ("unknown segment", lambda data: data + b"NTE|1||x\r", "those of the kind"),
    ("no PID", lambda data: re.sub(rb"PID[^\r]*\r", b"", data), "those of the kind"),
    ("blank segment", lambda data: data.replace(b"\rPID", b"\r\rPID"), "none is empty"),
    ("empty fields behind", lambda data: data[:-1] + b"||\r", "dropped"),
    ("too many fields", lambda data: data[:-1] + b"|" * 60 + b"x\r", "more fields"),
]


@pytest.mark.parametrize(("damage", "rule"), [row[1:] for row in DAMAGED_BYTES], ids=[row[0] for row in DAMAGED_BYTES])
def test_damaged_bytes_are_found(storage: Path, damage: Callable[[bytes], bytes], rule: str) -> None:
    path = next(storage.rglob("*_PPR-01_*_1"))
    path.write_bytes(damage(path.read_bytes()))
    found = check_storage(storage)
    assert any(rule in fault.rule and fault.path.endswith(path.name) for fault in found), found


def _rename(path: Path, was: str, becomes: str) -> None:
    path.rename(path.with_name(path.name.replace(was, becomes, 1)))


DAMAGED_NAMES: list[tuple[str, Callable[[Path], object], str]] = [
    ("extension", lambda path: _rename(path, "_01_1", "_01_1.hl7"), "seven parts"),
    ("no department", lambda path: _rename(path, "_01_1", "_1"), "seven parts"),
    ("flag 3", lambda path: _rename(path, "_01_1", "_01_3"), "seven parts"),
    ("short time", lambda path: _rename(path, "101530900", "101530"), "seven parts"),
    ("time of no day", lambda path: _rename(path, "_20260401101530900", "_20261301101530900"), "not in the calendar"),
    ("short order", lambda path: _rename(path, "000000000000301", "301"), "seven parts"),
    ("no order", lambda path: _rename(path, "000000000000301", "9" * 15), "filled with zeros"),
    ("other order", lambda path: _rename(path, "000000000000301", "000000000000302"), "the order number"),
    ("other patient", lambda path: _rename(path, "0000012345", "0000012346"), "folders"),
    ("other day", lambda path: _rename(path, "20260401", "20260402"), "folders"),
    ("no day", lambda path: _rename(path, "_20260401_", "_-_"), "day: -"),
    ("two valid files", lambda path: shutil.copy(path, str(path).replace("101530900", "101530901")), "only one valid"),
    ("history without a valid file", lambda path: _rename(path, "_01_1", "_01_2"), "has a later valid file"),
    ("link", lambda path: path.with_name(path.name.replace("301", "302")).symlink_to(path), "not a regular file"),
    ("other file", lambda path: path.with_name("Thumbs.db").write_bytes(b""), "seven parts"),
    ("unfinished write", lambda path: path.with_name(f".{path.name}.part").write_bytes(b""), "seven parts"),
    ("wrong kind", lambda path: path.parent.rename(path.parent.with_name("OMP-03")), "folders"),
]


@pytest.mark.parametrize(("damage", "rule"), [row[1:] for row in DAMAGED_NAMES], ids=[row[0] for row in DAMAGED_NAMES])
def test_damaged_names_are_found(storage: Path, damage: Callable[[Path], object], rule: str) -> None:
    damage(next(storage.rglob("*_OMP-01_*_1")))
    found = check_storage(storage)
    assert any(rule in fault.rule for fault in found), found


def test_an_undated_kind_under_a_day_and_a_department_in_adt_00(storage: Path) -> None:
    _rename(next(storage.rglob("*_ADT-00_*_1")), "_-_1", "_01_1")
    assert [fault.rule for fault in check_storage(storage)] == ["department: - for ADT-00 and ADT-61"]


def test_a_cancel_message_is_only_right_in_a_deleted_file(storage: Path) -> None:
    path = next(storage.rglob("*_OMP-01_*_1"))
    data = path.read_bytes().replace(b"ORC|NW", b"ORC|CA")
    path.write_bytes(data)
    assert {fault.field for fault in check_storage(storage)} == {"ORC-1"}
    _rename(path, "_01_1", "_01_0")
    assert check_storage(storage) == []


def test_no_storage_is_a_fault(tmp_path: Path) -> None:
    assert check_storage(tmp_path) == [Fault("", "", "", "the storage holds no file")]

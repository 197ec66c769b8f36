"""Masters as they are published and tables in the starter's layout: what is read, and what is refused with its place."""

import io
import os
import re
import zipfile
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput, TooLong
from app.receipts import masters
from app.receipts.masters import Master, read_master
from app.receipts.tables import Tables
from app.receipts.tsv import COLUMNS

STARTER = Path(__file__).parents[2] / "app" / "receipts" / "starter"
MASTERS = (
    Path(os.environ.get("HYOJUN_STANDARDS") or Path(__file__).parents[2].parent / "shared" / "standards")
    / "claims"
    / "masters"
)


def row(letter: str, columns: int, **written: str) -> str:
    """A row of a master; `written`: c3="…" by position, from 1."""
    fields = ["0", letter, *[""] * (columns - 2)]
    for position, value in written.items():
        fields[int(position[1:]) - 1] = value
    return ",".join(f'"{field}"' for field in fields)


def act(**written: str) -> str:
    known = {"c3": "199999910", "c5": "見本の行為", "c10": "分", "c12": "242.50", "c41": "00", "c42": "00", "c87": "20240601"}
    return row("S", 122, **(known | {"c88": "99999999"} | written))


def drug(**written: str) -> str:
    known = {"c3": "699999901", "c5": "見本錠５ｍｇ", "c10": "錠", "c12": "10.4", "c30": "20250401", "c31": "99999999"}
    return row("Y", 35, **(known | {"c32": "9999001F1020", "c34": "0"} | written))


def disease(**written: str) -> str:
    known = {"c3": "9999001", "c4": "9999001", "c6": "見本病", "c16": "E103", "c24": "99999999"}
    return row("B", 46, **(known | written))


def modifier(**written: str) -> str:
    return row("Z", 19, **({"c3": "8999", "c7": "の見本", "c16": "99999999"} | written))


def comment(**written: str) -> str:
    return row("C", 30, **({"c7": "見本のコメント", "c22": "99999999", "c23": "820999999"} | written))


def file_of(*rows: str) -> bytes:
    return "".join(f"{one}\r\n" for one in rows).encode("cp932")


def tables_of(master: Master) -> Tables:
    return Tables.of({master.kind: master.tsv}, [master.kind] if master.whole else [])


def test_acts() -> None:
    data = file_of(act(), act(c3="199999710", c41="06", c42="18"), act(c3="199999810", c42="B6", c88="20260331"))
    master = read_master(data, "s_ALL20260202.csv")
    assert (master.kind, master.edition, master.whole, master.rows) == ("acts", "2026-02-02", False, 3)
    acts = tables_of(master).acts
    assert list(acts) == ["199999710", "199999810", "199999910"], "sorted"
    first, second, third = acts["199999910"], acts["199999710"], acts["199999810"]
    assert (first.name, first.points, first.unit, first.min_age, first.max_age) == ("見本の行為", 242, "分", None, None)
    assert (first.valid_from, first.valid_to, first.sex) == (date(2024, 6, 1), None, "")
    assert (second.min_age, second.max_age) == (6, 17), "the upper age is the first that is too old"
    assert (third.max_age, third.valid_to) == (6, date(2026, 3, 31)), "up to the month's end"


def test_drugs() -> None:
    data = file_of(drug(), drug(c3="699999902", c34="20260331"), drug(c3="699999903", c31="20251231", c32="", c34="20260331"))
    drugs = tables_of(read_master(data, "y.csv")).drugs
    assert (drugs["699999901"].ingredient, str(drugs["699999901"].price), drugs["699999901"].valid_to) == (
        "9999001", "10.40", None,
    )  # fmt: skip
    assert drugs["699999902"].valid_to == date(2026, 3, 31), "経過措置年月日"
    assert (drugs["699999903"].valid_to, drugs["699999903"].ingredient) == (date(2025, 12, 31), "")


def test_diseases() -> None:
    data = file_of(
        disease(),
        disease(c3="9999002", c4="9999001", c17="H360", c24="20240531"),
        disease(c3="9999003", c4="", c16=""),
        disease(c3="9999001", c6="見本病二", c16="M9089"),
    )
    diseases = tables_of(read_master(data, "b_20260101.txt")).diseases
    assert (diseases["9999001"].name, diseases["9999001"].icd10, diseases["9999001"].successor) == ("見本病二", "M9089", "")
    ended = diseases["9999002"]
    assert (ended.icd10, ended.further, ended.successor, ended.valid_to) == ("E103", "H360", "9999001", date(2024, 5, 31))
    assert (diseases["9999003"].icd10, diseases["9999003"].successor) == ("", "")


def test_modifiers_and_comments() -> None:
    tables = tables_of(read_master(file_of(modifier(), modifier(c3="1999", c16="20240531")), "z.txt"))
    assert tables.modifiers == {"1999": "の見本", "8999": "の見本"}
    assert tables.ended["modifiers"] == {"1999": date(2024, 5, 31)} and tables.modifier_codes == {"の見本": "1999"}
    tables = tables_of(read_master(file_of(comment(), comment(c7="", c23="810000001")), "c.csv"))
    assert tables.comments == {"810000001": "", "820999999": "見本のコメント"}


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        (act(c3="19999991"), "line 2, column 3 (code): must be 9 digits"),
        (act(c12="many"), "line 2, column 12 (points): must be a number"),
        (act(c12="-1.00"), "line 2, column 12 (points)"),
        (act(c42="ZZ"), "line 2, column 42 (max_age)"),
        (act(c88="20240230"), "line 2, column 88 (valid_to): is not a day"),
        (act(c87="2024"), "line 2, column 87 (valid_from): must be written YYYYMMDD"),
        (act(c5="見\t本"), "line 2, column 5 (name): holds a tab"),
        (row("S", 87), "line 2: has 87 columns"),
        (modifier(), "line 2: has 19 columns"),
        (drug(), "line 2: has 35 columns"),
        (act() + '"', "line 2: is no row of a CSV file"),
    ],
)
def test_a_damaged_row_is_told_and_nothing_is_read(broken: str, place: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(place)):
        read_master(file_of(act(), broken, act(c3="199999810")), "s.csv")


def test_damaged_diseases_and_characters() -> None:
    with pytest.raises(InvalidInput, match=re.escape("line 1, column 16 (icd10)")):
        read_master(file_of(disease(c16="e10")), "b.txt")
    with pytest.raises(InvalidInput, match="line 2: is not Shift_JIS"):
        read_master(file_of(modifier()) + b'"0","Z",\x81\x20\r\n', "z.txt")
    assert read_master(file_of(modifier()) + b"\r\n\x1a", "z.txt").rows == 1, "an end as MS-DOS wrote it"


@pytest.mark.parametrize(
    "data",
    [b"", b"\r\n", b"%PDF-1.4\n", b'"0","T","710010001"\r\n', b"code\tname\n", b"PK\x03\x04nonsense", b"\xff\xfe\x00"],
)
def test_what_is_no_table(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_master(data, "file")


def zipped(**members: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", ".", 1), content)
    return target.getvalue()


def test_zip() -> None:
    inside = file_of(modifier())
    with_notes = zipped(z20250101_txt=inside, readme_pdf=b"%PDF")
    assert read_master(with_notes, "z.zip") == read_master(inside, "z20250101.txt")
    for refused in (zipped(), zipped(a_txt=inside, b_txt=inside), zipped(a_txt=with_notes), with_notes[:60]):
        with pytest.raises(InvalidInput, match="ZIP"):
            read_master(refused, "z.zip")


def test_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masters, "MAX_BYTES", 200)
    for data in (file_of(modifier(), modifier(c3="8998"), modifier(c3="8997")), zipped(a_txt=b"0" * 201)):
        with pytest.raises(TooLong):
            read_master(data, "z.txt")


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_table_in_our_layout(kind: str) -> None:
    data = (STARTER / f"{kind}.tsv").read_bytes()
    master = read_master(data, f"{kind}.tsv")
    assert (master.kind, master.whole, master.edition, master.tsv) == (kind, False, "", data.decode())
    assert master.rows == data.count(b"\n") - 1
    windows = read_master(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"), "x")
    assert windows == master
    with pytest.raises(InvalidInput, match=rf"{kind}: line 2: is not UTF-8"):
        read_master(data.replace(b"\n", b"\n\xff", 1), "x")
    with pytest.raises(InvalidInput, match=rf"{kind}: line {master.rows + 2}: has 1 columns"):
        read_master(data + b"x\n", "x")


def test_a_master_counts_as_whole_by_its_size() -> None:
    extract = [comment(c23=f"8209{number:05}") for number in range(500)]
    assert not read_master(file_of(*extract), "c.csv").whole
    assert read_master(file_of(*extract, comment()), "c.csv").whole


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for content in (data, file_of(act()) + data, b"code\tper\tmost\treference\n" + data):
        try:
            assert tables_of(read_master(content, "x"))
        except InvalidInput as error:
            assert str(error).isprintable()


@pytest.mark.official
@pytest.mark.parametrize(
    ("name", "kind", "rows", "whole"),
    [
        ("s_layout_sample.csv", "acts", 5, False),
        ("y_layout_sample.csv", "drugs", 4, False),
        ("b_layout_sample.csv", "diseases", 5, False),
        ("z_layout_sample.csv", "modifiers", 8, False),
        ("z_20250101.txt", "modifiers", 2359, True),
        ("c_20250307.csv", "comments", 3857, True),
    ],
)
def test_published_masters(name: str, kind: str, rows: int, whole: bool) -> None:
    path = MASTERS / name
    if not path.is_file():
        pytest.skip("no masters here")
    master = read_master(path.read_bytes(), name)
    assert (master.kind, master.rows, master.whole) == (kind, rows, whole)
    tables = tables_of(master)
    assert len(getattr(tables, kind)) == rows
    if kind == "acts":
        assert (tables.acts["111000110"].name, tables.acts["111000110"].points) == ("初診料", 282)
        assert (tables.acts["140009310"].unit, tables.acts["140009310"].valid_from) == ("分", date(2018, 4, 1))
    elif kind == "drugs":
        assert (tables.drugs["610406079"].name, tables.drugs["610406079"].yj) == ("ガスター散２％", "2325003B2029")
        assert tables.drugs["630010002"].ingredient == ""
    elif kind == "diseases":
        assert (tables.diseases["4375001"].icd10, tables.diseases["0000999"].icd10) == ("I675", "")
        assert tables.diseases["0000999"].successor == ""
    elif kind == "modifiers" and whole:
        assert tables.modifiers["8002"] == "の疑い" and master.edition == "2025-01-01"
    elif kind == "comments":
        assert tables.comments["820000001"] == "別途コメントあり" and len(tables.ended["comments"]) == 98

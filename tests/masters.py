"""Small code masters in the publishers' layouts, with invented names and codes; and where the real ones are."""

import io
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import pytest


def standards() -> Path:
    """The publishers' packages and tables; skips the test where there are none."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "standards"
    path = Path(os.environ.get("HYOJUN_STANDARDS", beside))
    if not path.is_dir():
        pytest.skip("no official packages; HYOJUN_STANDARDS names their folder")
    return path


def csv_text(rows: Sequence[Sequence[str]], *, quoted: bool = True, end: str = "\r\n") -> str:
    cells = ([f'"{cell}"' for cell in row] if quoted else list(row) for row in rows)
    return "".join(",".join(row) + end for row in cells)


def row_of(width: int, **cells: str) -> list[str]:
    """A row of `width` cells; keys are `c` and the column's number from 1."""
    row = [""] * width
    for key, cell in cells.items():
        row[int(key[1:]) - 1] = cell
    return row


def nmain(*, extra: int = 0) -> list[list[str]]:
    rows = [
        row_of(20, c1="0", c2="29000001", c3="甲乙炎", c4="コウオツエン", c5="1", c6="X001", c7="K859", c11="9900001",
               c12="甲炎", c15="20150101", c17="00", c18="0"),
        row_of(20, c1="0", c2="29000002", c3="甲乙癌", c4="コウオツガン", c5="1", c6="X002", c7="C169", c8="D630", c17="01",
               c18="0"),
        row_of(20, c1="1", c2="29000003", c3="旧甲乙炎", c4="キュウコウオツエン", c5="3", c16="29000001", c17="00", c18="0"),
    ]  # fmt: skip
    rows += [
        row_of(20, c1="0", c2=f"28{n:06}", c3=f"試験病{n}", c5="2", c6=f"{n:04}", c7="R69", c17="00", c18="0")
        for n in range(extra)
    ]
    return rows


def mdfy() -> list[list[str]]:
    return [
        ["0", "27900001", "甲性", "コウセイ", "Y001", "17", "A5000000", "", "5901", ""],
        ["0", "27900002", "の乙後", "ノオツゴ", "Y002", "05", "A8000000", "", "8901", ""],
    ]


def index() -> list[list[str]]:
    return [
        ["甲乙性炎症", "X001", "1", "1", "1", "9", "9", "", ""],
        ["甲乙炎", "X001", "1", "1", "0", "9", "9", "", ""],
        ["コウオツエン", "X001", "1", "2", "0", "9", "9", "", ""],
        ["甲性", "Y001", "2", "1", "0", "9", "9", "", ""],
    ]


def ssk_disease() -> list[list[str]]:
    def row(code: str, name: str, number: str, **cells: str) -> list[str]:
        return row_of(
            46, **{"c1": "0", "c2": "B", "c3": code, "c4": code, "c5": "3", "c6": name, "c7": "3", "c8": name, "c9": "5",
                   "c10": "コウオツ", "c11": number, "c12": "1", "c13": "X001", "c16": "K859", "c19": "00", "c20": "0",
                   "c22": "20200601", "c24": "99999999"} | cells,
        )  # fmt: skip

    return [
        row("9900001", "甲乙炎", "29000001"),
        row("9900002", "甲乙外傷", "29000009", c13="X009", c19="01"),
        row("9900003", "乙甲炎", "29000003", c13="X003", c4="9900001", c24="20220531"),
        row("0000999", "＊＊　未コード化傷病名　＊＊", "20084317", c13="0000", c16=""),
    ]


def ssk_modifier() -> list[list[str]]:
    def row(code: str, name: str, number: str, group: str) -> list[str]:
        return ["0", "Z", code, "", "", "2", name, "", "4", "コウセイ", "", "0", "0", "20250101", "", "99999999", number,
                "Y001" if code < "8" else "Y002", group]  # fmt: skip

    return [row("5901", "甲性", "27900001", "A5000000"), row("8901", "の乙後", "27900002", "A8000000")]


def ssk_drug(width: int = 42) -> list[list[str]]:
    cells = {"c1": "0", "c2": "Y", "c4": "9", "c6": "10", "c7": "ｺｳﾔｸｼﾞｮｳ5MG", "c8": "16", "c10": "錠", "c30": "20250401",
             "c31": "99999999"}  # fmt: skip
    rows = [
        cells | {"c3": "629900001", "c5": "コウヤク錠５ｍｇ", "c32": "9999001F1021", "c35": "コウヤク錠５ｍｇ"},
        cells | {"c3": "629900002", "c5": "オツ錠５ｍｇ「試験」", "c32": "9999002F1018", "c31": "20240331"},
        cells | {"c3": "639900003", "c5": "薬剤料逓減", "c32": "", "c10": ""},
    ]
    if width >= 38:
        rows[0] |= {"c37": "9999001F1ZZZ", "c38": "【般】コウヤク錠５ｍｇ"}
    return [row_of(width, **row) for row in rows]


PRICE_HEADER = [
    "区分", "薬価基準収載医薬品コード", "成分名", "規格", "日本薬局方", "麻薬", "業者名追記", "品名", "メーカー名",
    "診療報酬において加算等の算定対象となる後発医薬品", "先発医薬品", "同一剤形・規格の後発医薬品がある先発医薬品", "薬価",
    "経過措置による使用期限", "備考",
]  # fmt: skip


def price() -> list[list[str]]:
    def row(code: str, name: str, spec: str, until: str = "") -> list[str]:
        return ["内用薬", code, "甲薬塩酸塩", spec, "", "", "", name, "試験製薬", "", "先発品", "", "1,234.5", until, ""]

    return [
        PRICE_HEADER,
        row("9999001F1021", "コウヤク錠５ｍｇ", "５ｍｇ１錠"),
        row("9999001F1013", "甲薬錠５ｍｇ", "５ｍｇ１錠"),
        row("9999001B1039", "甲薬散１％「試験」", "１％１ｇ", "R6.3.31まで"),
    ]


def jfagy() -> list[list[str]]:
    head = ["DISPLAYSEQ", "JFAGYCODE", "JPTERM", "JPKANA", "ENTERM", "LEVEL", "MAINFLAG", "GUIDELINE", "CXGCATEGORY",
            "RECORDDATE", "ENDDATE"]  # fmt: skip
    tail = ["", "0", "00000000", "99999999"]
    return [
        head,
        ["1", "D9M000000000", "医薬品ダミー", "だみー", "Dummy", "1", "1", *tail],
        ["2", "00F", "食品", "しょくひん", "Food", "1", "1", *tail],
        ["3", "J9FA99000000", "甲果", "こうか", "Ko fruit", "3", "1", *tail],
        ["4", "J9NA99000000", "乙虫", "おつむし", "Otsu insect", "3", "", *tail],
        ["5", "J9FA98000000", "旧果, 丙", "きゅうか", "Old", "3", "", "", "3", "20240709", "20250331"],
    ]


def jlac10() -> list[list[str]]:
    return [
        ["code", "display"],
        ["9Z990000002329101", "甲物質_血清_反射測光法_定量値"],
        ["9Z991123402302361", "乙物質_丙型_血清_酵素法_判定_追加"],
    ]


HOT_HEADER = [
    "基準番号（ＨＯＴコード）", "処方用番号（ＨＯＴ７）", "会社識別用番号", "調剤用番号", "物流用番号", "ＪＡＮコード",
    "薬価基準収載医薬品コード", "個別医薬品コード", "レセプト電算処理システムコード（１）", "レセプト電算処理システムコード（２）",
    "告示名称", "販売名", "レセプト電算処理システム医薬品名", "規格単位", "包装形態", "包装単位数", "包装単位単位", "包装総量数",
    "包装総量単位", "区分", "製造会社", "販売会社", "レコード区分", "更新年月日",
]  # fmt: skip


def hot() -> list[list[str]]:
    def row(code: str, yj: str, price: str, name: str) -> list[str]:
        return row_of(
            24, c1=code, c2=code[:7], c3="01", c7=price, c8=yj, c9="629900001", c12=name, c13=name, c14="５ｍｇ１錠", c20="内",
            c21="試験製薬", c23="1", c24="20250630",
        )  # fmt: skip

    return [
        HOT_HEADER,
        row("1990001010101", "9999001F1021", "9999001F1021", "コウヤク錠５ｍｇ"),
        row("1990001010102", "9999001F1021", "9999001F1021", "コウヤク錠５ｍｇ"),
        row("1990002010101", "9999001F1048", "9999001F1013", "甲薬錠５ｍｇ「試験」"),
    ]


def yj() -> list[list[str]]:
    return [["YJコード", "品名", "成分名", "規格"], ["9999001F1021", "コウヤク錠５ｍｇ", "甲薬塩酸塩", "５ｍｇ１錠"]]


def generic() -> dict[str, list[list[str]]]:
    head = ["区分", "一般名コード", "一般名処方の標準的な記載", "成分名", "規格"]
    return {
        "一般名処方マスタ 例外": [[*head, "薬価基準収載医薬品コード", "品名"], ["内用薬", "9999009F1ZZA", "x", "y", "z", "w", "v"]],
        "一般名処方マスタ 全体": [
            ["一般名処方マスタ"],
            ["", "", "", "", "", "", "", "", "令和8年4月1日適用"],
            [*head, "一般名処方加算対象", "例外コード", "同一剤形・規格内の最低薬価", "備考"],
            ["内用薬", "9999001F1ZZZ", "【般】甲薬錠５ｍｇ", "甲薬塩酸塩", "５ｍｇ１錠", "加算1,2", "", "5.9", ""],
        ],
    }


def usage() -> dict[str, list[list[str]]]:
    return {
        "用法マスタ": [
            ["用法コード", "基本用法区分", "", "用法名称", "使用開始日", "使用終了日", "用法コード区分"],
            ["", "コード", "名称", "", "", "", ""],
            [],
            ["1013044400000000", "1", "内服", "１日３回朝昼夕食後　服用", "20230101", "99999999", "標準コード"],
            ["1011000900000000", "1", "内服", "１日１回朝食中　服用", "20230101", "20250630", "標準コード"],
        ]
    }


def code_system(url: str = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS") -> bytes:
    return json.dumps({
        "resourceType": "CodeSystem", "status": "active", "content": "complete", "url": url, "version": "9.9.0", "count": 3,
        "concept": [{"code": "KO", "concept": [
            {"code": f"9Z9900000023299{n:02}", "display": "甲", "designation": [{"language": "ja", "value": "甲物質"}],
             "property": [{"code": "specimen", "valueString": "血清"}]}
            for n in (1, 2)
        ]}],
    }, ensure_ascii=False).encode()  # fmt: skip


def workbook(sheets: dict[str, list[list[str]]]) -> bytes:
    """An .xlsx file with shared strings, as Excel writes it."""
    strings: dict[str, int] = {}
    parts: dict[str, str] = {}
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    names = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
    for number, rows in enumerate(sheets.values(), 1):
        body = ""
        for line, row in enumerate(rows, 1):
            cells = "".join(
                f'<c r="{chr(65 + at)}{line}" t="s"><v>{strings.setdefault(cell, len(strings))}</v></c>'
                for at, cell in enumerate(row)
                if cell
            )
            body += f'<row r="{line}">{cells}</row>'
        parts[f"xl/worksheets/sheet{number}.xml"] = f"<worksheet {main}><sheetData>{body}</sheetData></worksheet>"
    listed = "".join(f'<sheet name="{escape(n)}" sheetId="{i}" r:id="rId{i}"/>' for i, n in enumerate(sheets, 1))
    parts["xl/workbook.xml"] = f"<workbook {main} {names}><sheets>{listed}</sheets></workbook>"
    links = "".join(f'<Relationship Id="rId{i}" Target="worksheets/sheet{i}.xml"/>' for i in range(1, len(sheets) + 1))
    parts["xl/_rels/workbook.xml.rels"] = f"<Relationships>{links}</Relationships>"
    shared = "".join(f"<si><t>{escape(text)}</t><rPh sb='0' eb='1'><t>ヨミ</t></rPh></si>" for text in strings)
    parts["xl/sharedStrings.xml"] = f"<sst {main}>{shared}</sst>"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return made.getvalue()


def master(kind: str) -> tuple[str, bytes]:
    """File name and bytes of a small master, as its publisher would ship it (cp932, or UTF-8 where that is usual)."""
    text = {
        "nmain": ("nmain599.txt", nmain), "mdfy": ("mdfy599.txt", mdfy), "index": ("index599.txt", index),
        "ssk-disease": ("b_20250601.txt", ssk_disease), "ssk-modifier": ("z_20250601.txt", ssk_modifier),
        "ssk-drug": ("y_ALL20250601.csv", ssk_drug), "hot": ("MEDIS20250630.TXT", hot),
        "price": ("price_20250716.csv", price), "jfagy": ("JFAGY_J9FN_20250401_R01.csv", jfagy), "yj": ("yj_20250601.csv", yj),
    }  # fmt: skip
    if kind in text:
        name, rows = text[kind]
        # Commas stand in prices and names of the two lists, so their cells are quoted too.
        return name, csv_text(rows()).encode("utf-8" if kind in ("jfagy", "price", "yj") else "cp932")
    if kind == "jlac10":
        return "jlac10_2025-09.tsv", "".join("\t".join(row) + "\n" for row in jlac10()).encode()
    if kind == "generic":
        return "generic.xlsx", workbook(generic())
    if kind == "usage":
        return "usage_20250701.xlsx", workbook(usage())
    assert kind == "codesystem"
    return "CodeSystem-test.json", code_system()

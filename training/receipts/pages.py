"""Pieces of a chart, and the layouts that put the pieces of a visit together on a page."""

# ruff: noqa: E501 (tables of words, one row a line)

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from schemas.coding import Coding
from schemas.statement import Action, Assertion, Field, Kind
from training.corpus.phrasing import FULL_FORMS, written_date

_WIDE = str.maketrans({chr(n): chr(n + 0xFEE0) for n in range(0x21, 0x7F)})
_HEADS = (
    ("S)", "O)", "A)", "P)"), ("【S】", "【O】", "【A】", "【P】"), ("S:", "O:", "A:", "P:"), ("(S)", "(O)", "(A)", "(P)"), ("S　", "O　", "A　", "P　"), ("#S", "#O", "#A", "#P"),
    ("主訴", "所見", "診断", "方針"), ("〈主訴〉", "〈現症〉", "〈評価〉", "〈処方・計画〉"), ("■経過", "■所見・検査", "■病名・評価", "■処方・方針"), ("＜S＞", "＜O＞", "＜A＞", "＜P＞"), ("[S]", "[O]", "[A]", "[P]"),
    ("S/", "O/", "A/", "P/"), ("【現病歴】", "【現症・検査】", "【アセスメント】", "【プラン】"), ("経過：", "所見：", "評価：", "処置・処方："), ("1.主訴", "2.所見", "3.評価", "4.方針"),
)  # fmt: skip
_OPENINGS = (
    "{t}",
    "{t} 再診",
    "{t} 外来",
    "{t}　診療録",
    "外来診療録 {t}",
    "{t} 内科",
    "{t}（{k}）",
    "経過記録　{t}",
    "",
)
_RP = ("Rp)", "処方：", "Rp.", "【処方】", "処方", "<処方>", "内服", "Do)", "")


@dataclass
class Fact:
    """`spans`: field to its place in the piece."""

    kind: Kind
    spans: dict[Field, tuple[int, int]]
    display: str
    codings: tuple[Coding, ...] = ()
    assertion: Assertion = Assertion.PRESENT
    action: Action | None = None


@dataclass
class Piece:
    """A clause. `part`: S, O, A, P or R (a prescription). `about`: what of the story it speaks of."""

    text: str
    part: str
    facts: list[Fact] = field(default_factory=list)
    about: list[object] = field(default_factory=list)


class _Page:
    """Text that grows, and where the pieces stand in it."""

    def __init__(self) -> None:
        self.text = ""
        self.placed: list[tuple[Piece, int]] = []

    def write(self, text: str) -> None:
        self.text += text

    def put(self, piece: Piece) -> None:
        self.placed.append((piece, len(self.text)))
        self.text += piece.text

    def line(self) -> None:
        if self.text and not self.text.endswith("\n"):
            self.text += "\n"


def laid_out(rng: random.Random, pieces: list[Piece], day: date) -> tuple[str, list[tuple[Piece, int]]]:
    page = _Page()
    opening = rng.choice(_OPENINGS)
    if opening:
        shown = written_date(rng, day, rng.choice(FULL_FORMS))
        page.write(opening.replace("{t}", shown).replace("{k}", "月火水木金土日"[day.weekday()]))
        page.line()
    by_part = {part: [piece for piece in pieces if piece.part == part] for part in "SOAPR"}
    for part in "SOAP":
        rng.shuffle(by_part[part])
    layout = rng.choices((_sections, _compact, _prose, _listed), (45, 15, 22, 18))[0]
    layout(rng, page, by_part)
    text = page.text.rstrip("\n")
    if rng.random() < 0.06:
        text = text.translate(_WIDE)
    return text, page.placed


def _sections(rng: random.Random, page: _Page, by_part: Mapping[str, list[Piece]]) -> None:
    heads = rng.choice(_HEADS)
    bullet = rng.choice(("", "", "", "・", "- ", "　", "・", "*"))
    same = rng.random() < 0.35
    stop = rng.choice(("", "", "。"))
    for number, part in enumerate("SOAP"):
        chunk = by_part[part]
        orders = by_part["R"] if part == "P" else []
        if not chunk and not orders:
            continue
        page.write(heads[number])
        if same:
            page.write(" ")
        else:
            page.line()
        front = chunk if rng.random() < 0.5 else []
        _lines(rng, page, front, bullet, stop)
        if orders:
            if rp := rng.choice(_RP):
                page.line()
                page.write(rp)
                page.line()
            mark = rng.choice((bullet, "", "{}) ", "{}. "))
            for n, piece in enumerate(orders, 1):
                page.write(mark.format(n))
                page.put(piece)
                page.line()
        _lines(rng, page, [] if front else chunk, bullet, stop)
        page.line()


def _lines(rng: random.Random, page: _Page, chunk: Sequence[Piece], bullet: str, stop: str) -> None:
    beside = rng.random() < 0.3
    for n, piece in enumerate(chunk):
        if beside and n and rng.random() < 0.6:
            page.text = page.text.rstrip("\n")
            page.write(rng.choice(("。", "、", "　", "。 ")) if not page.text.endswith("。") else "")
        else:
            page.write(bullet)
        page.put(piece)
        page.write(stop)
        page.line()


def _compact(rng: random.Random, page: _Page, by_part: Mapping[str, list[Piece]]) -> None:
    heads = rng.choice(_HEADS)
    for number, part in enumerate("SOAP"):
        chunk = [*by_part[part], *(by_part["R"] if part == "P" else [])]
        if chunk:
            page.write(heads[number].strip("　") + " ")
            for n, piece in enumerate(chunk):
                page.write(rng.choice(("。", "。", "、", "　", " / ")) if n else "")
                page.put(piece)
            page.line()


def _prose(rng: random.Random, page: _Page, by_part: Mapping[str, list[Piece]]) -> None:
    for n, piece in enumerate(piece for part in "SOAPR" for piece in by_part[part]):
        if n and rng.random() < 0.12:
            page.line()
        page.put(piece)
        page.write("。")
    page.line()


def _listed(rng: random.Random, page: _Page, by_part: Mapping[str, list[Piece]]) -> None:
    order = rng.choice(("ASOPR", "SOAPR", "RASOP", "OAPRS", "APRSO"))
    bullet = rng.choice(("・", "", "-", "○", "＊", "　"))
    for part in order:
        for piece in by_part[part]:
            page.write(bullet)
            page.put(piece)
            page.line()
        if rng.random() < 0.3:
            page.write("\n")

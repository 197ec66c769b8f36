"""The reference range of a result, beside it or in its column of a table.

A reference range is never written by a model: it is found by its place alone, and left out where the place is not clear.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from app.normalize import parse_quantity, parse_reference_range
from app.normalize.ranges import RANGE_LABEL
from app.note_page import DATE, Page
from schemas.statement import EvidenceSpan, Field

# Where a reference range may stand; `parse_reference_range` decides whether it is one. Folding leaves some dashes apart.
# Numbers and gaps have an end, or a line of a hundred thousand digits would be searched from each of them.
_N = r"[+-]?[0-9]{1,3}(?:,[0-9]{3}){1,4}(?:\.[0-9]{1,9})?|[+-]?[0-9]{1,12}(?:\.[0-9]{1,9})?"
_RANGE = re.compile(
    rf"(?:{_N})\s{{0,9}}(?:[-~\u301c\u2014\u2015ー]|以上[、,~\s]?)\s{{0,9}}(?:{_N})(?:\s{{0,9}}(?:以下|未満))?"
    rf"|(?:[<>][=]?|[≦≧≤≥])\s{{0,9}}(?:{_N})|(?:{_N})\s{{0,9}}(?:以下|未満|以上)|[~\u301c]\s{{0,9}}(?:{_N})(?![0-9./])"
)
_BRACKETED = re.compile(r"[(\[【〔{](?P<inside>[^()\[\]【】〔〕{}]{1,40})[)\]】〕}]")
_LABEL = re.compile(rf"\s{{0,9}}[、,]?\s{{0,9}}{RANGE_LABEL.pattern}\s{{0,9}}[::は]?\s{{0,9}}")
# What may stand between a result and its range and was not read: a flag, a unit.
_FLAG = re.compile(r"\((?:HH?|LL?|[↑↓])\)|(?:HH?|LL?)(?![A-Za-z])|[↑↓*]{1,2}|[高低]値?")
_UNIT = re.compile(r"(?:[×x]?10\^[0-9]{1,2}|[万千])?(?:[A-Za-zμ]{0,6}/[A-Za-zμ][A-Za-z0-9.μ]{0,9}|%|‰|秒|fL|pg|COI|mEq)(?![A-Za-z])")
_RESULT_COLUMN = re.compile(r"結果|成績|今回|前回|測定値|検査値|データ|(?<!基準)(?<!参考)(?<!正常)値")
# A result so many times above or below its limit has another unit (5200 /uL beside 3.3-8.6 10^3/uL), or the numbers are
# no range. Results do go far: CRP to some 300 times, CK to some 400 times the limit, platelets to a hundredth of it.
_FAR_ABOVE, _FAR_BELOW = 500, 200


class _Range(NamedTuple):
    """A reference range in its line: half-open offsets; may it be read as month and day?"""

    start: int
    end: int
    like_a_date: bool


def reference_ranges(page: Page) -> Iterator[tuple[int, EvidenceSpan]]:
    """(statement, its reference range): behind its value, unit and flag, in brackets or after 基準値, or else in the
    column of a table whose head says 基準値. The limits alone, 3.5-5.0, without brackets and unit."""
    measured = [i for i in range(len(page.statements)) if page.is_result(i) and page.place(i, Field.VALUE)]
    beside = [(index, found) for index in measured if (found := _range_beside(page, index))]
    # (8-20) may be the 20th of August, unless other ranges of the note are written in the same way.
    ranges = [(i, found) for i, found in beside if not found.like_a_date or any(not f.like_a_date for _, f in beside)]
    done = {index for index, _ in ranges}
    for number in sorted(page.results):
        row = [i for i in page.by_line[number] if i in measured]
        names = {page.statements[i].name.quote for i in row}
        found = _range_in_column(page, number, row) if len(names) == 1 else None
        ranges += [(i, found) for i in row if found and i not in done]
    for index, found in ranges:
        span = page.span(page.line_of[index], found.start, found.end)
        if _is_plausible(page, index, span.quote):
            yield index, span


def _range_beside(page: Page, index: int) -> _Range | None:
    number = page.line_of[index]
    text = page.texts[number]
    at = _behind(page, index)
    labelled = _LABEL.match(text, at)
    at = labelled.end() if labelled else at
    bracket = _BRACKETED.match(text, at)
    end = len(text)
    if bracket:
        at, end = bracket.span("inside")
        inner = _LABEL.match(text, at, end)
        labelled, at = labelled or inner, inner.end() if inner else at
    if not (bracket or labelled):
        return None
    at += len(text[at:end]) - len(text[at:end].lstrip())
    match = _RANGE.match(text, at, end)
    if match is None or _is_taken(page, number, *match.span()):
        return None
    unit = text[match.end() : end].strip() if bracket else _unit_at(page, index, text, match.end())
    if unit is None or not _is_own_unit(page, index, unit):
        return None
    piece = match[0]
    if not labelled and _is_years(piece):
        return None
    return _Range(*match.span(), like_a_date=not labelled and not unit and _is_like_a_date(piece))


def _behind(page: Page, index: int) -> int:
    """The end of the value, and of the unit and flag that follow it."""
    text = page.texts[page.line_of[index]]
    value = page.place(index, Field.VALUE)
    assert value
    own = [place for field in (Field.UNIT, Field.FLAG) if (place := page.place(index, field))]
    at, unit_read = value[1], page.place(index, Field.UNIT) is not None
    while True:
        at += len(text[at:]) - len(text[at:].lstrip())
        read = next((end for start, end in own if start == at), None)
        if read is None and text[at : at + 1] in ("(", "["):  # 56.7 (mL/min), 5% [高値]
            read = next((end + 1 for start, end in own if start == at + 1 and text[end : end + 1] in (")", "]")), None)
        match = _FLAG.match(text, at) or (None if unit_read else _UNIT.match(text, at))
        if read is None and match is None:
            return at
        at = read if read is not None else match.end() if match else at


def _unit_at(page: Page, index: int, text: str, at: int) -> str | None:
    """The unit behind an unbracketed range, "" for none; None when something else follows the range there."""
    word = re.split(r"[\s、,。;()|]", text[at:].lstrip())[0]
    if _is_own_unit(page, index, word):
        return word
    # Another word behind a space is the next thing on the line, unless it is a unit that is not the result's.
    return "" if text[at].isspace() and not _UNIT.match(word) and word[0] not in "万千×" else None


def _is_own_unit(page: Page, index: int, unit: str) -> bool:
    """Is `unit`, written behind a range, that of the result? Another unit would make other limits of it."""
    place = page.place(index, Field.UNIT)
    if not unit:
        return True
    if place:
        return page.texts[page.line_of[index]][slice(*place)].replace(" ", "") == unit.replace(" ", "")
    # A result without a unit of its own: the one in the brackets may have been meant for both, but not a factor.
    return bool(_UNIT.fullmatch(unit)) and unit[0] not in "万千×x1"


def _is_taken(page: Page, number: int, start: int, end: int) -> bool:
    """Is a part of the place a name, value or date of some statement already?"""
    start, end = start + page.lines[number].start, end + page.lines[number].start
    return any(
        span.start < end and start < span.end for statement in page.statements for span in statement.fields.values()
    )


def _range_in_column(page: Page, number: int, row: list[int]) -> _Range | None:
    """The range of a row in the column whose head says so: by the signs between cells, else the only one behind the
    results (or before them, where the column stands before theirs)."""
    label = _range_head(page, number)
    if label is None:
        return None
    head, text = label.string, page.texts[number]
    values = [place for i in row if (place := page.place(i, Field.VALUE))]
    area = (max(end for _, end in values), len(text))
    sign = next((sign for sign in "\t|" if sign in head and sign in text), None)
    if sign:
        cells = [-1, *(at for at, char in enumerate(text) if char == sign), len(text)]
        column = head.count(sign, 0, label.start())
        if column + 1 >= len(cells):
            return None
        area = (cells[column] + 1, cells[column + 1])
    elif not (DATE.search(head, 0, label.start()) or _RESULT_COLUMN.search(head, 0, label.start())):
        name = page.place(row[0], Field.NAME)
        area = (name[1] if name else 0, min(start for start, _ in values))
    matches = [m for m in _RANGE.finditer(text, *area) if not _is_taken(page, number, *m.span())]
    if len(matches) != 1:
        return None
    [match] = matches
    before, behind = text[area[0] : match.start()], text[match.end() : area[1]]
    # A cell between signs holds nothing else; between spaces the range is a word of its own.
    before, behind = (before.strip(), behind.strip()) if sign else (before[-1:].strip(), re.split(r"[\s|]", behind)[0])
    clear = before in ("", "(", "[") and _is_own_unit(page, row[0], behind.strip(")]"))
    return _Range(*match.span(), like_a_date=False) if clear else None


def _range_head(page: Page, number: int) -> re.Match[str] | None:
    """The label of the column of reference ranges in the head of the table that the row is in."""
    for above in page.above(number):
        text = page.texts[above]
        if above in page.results:
            continue
        dates = len(DATE.findall(text))
        label = RANGE_LABEL.search(text)
        rest = RANGE_LABEL.sub("", DATE.sub("", text))
        words = re.sub(r"[\s|:()\[\]【】/・-]", "", rest)
        # A head holds a few words (項目, 結果, 単位, 判定) and no numbers but those of dates.
        if label and (words or dates) and len(words) <= 20 and not re.search("[0-9。]", words):
            return label
        if label or dates >= 2:
            return None
    return None


def _is_plausible(page: Page, index: int, quote: str) -> bool:
    """Is `quote` a range, and one that a number as the result's may stand beside?"""
    limits = parse_reference_range(quote)
    if limits is None:
        return False
    quantity = parse_quantity(page.statements[index].fields[Field.VALUE].quote, None)
    if quantity is None or quantity.value <= 0:
        return quantity is not None
    low, high = limits
    not_above = high is None or high <= 0 or quantity.value <= high * _FAR_ABOVE
    return not_above and (low is None or low <= quantity.value * _FAR_BELOW)


def _is_like_a_date(piece: str) -> bool:
    return re.fullmatch(r"(?:1[0-2]|[1-9])-(?:3[01]|[12][0-9]|[1-9])", piece) is not None


def _is_years(piece: str) -> bool:
    numbers = re.findall("[0-9]+", piece)
    return not re.search("[<>≦≧≤≥以未]", piece) and all(re.fullmatch("(?:19|20)[0-9]{2}", n) for n in numbers)

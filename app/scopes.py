"""What the layout of a note says of its statements: the dates in the head of a table, the date of a heading, the unit of
a row, the days of supply of a whole list, and the reference ranges (app/reference_ranges.py). Each is given to the
statements it covers, with its own characters as evidence.

A model reads line by line and may miss what stands lines away; where a field belongs by the layout alone it is computed.
A date from another line gives way to the one that the layout proves; what stands on a statement's own line is kept.
"""

import bisect
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence, Set
from itertools import groupby, pairwise

from app.note_page import DATE, LOOK_UP, Page
from app.reference_ranges import reference_ranges
from schemas.note import SourceLine
from schemas.statement import EvidenceSpan, Field, Kind, Statement

# Words of headings over results.
_RESULTS = re.compile(r"検査|採血|血液|感染症|データ|生化学|血算|凝固|検尿|尿所見|ラボ|[Ll]abo?\b|[Dd]ata|血ガス|腫瘍マーカー|ホルモン")
# Those of them that begin another sampling; the others (血算, 生化学 …) may be groups of one.
_SAMPLING = re.compile(r"検査|採血|データ|ラボ|[Ll]abo?\b|[Dd]ata")
_HEADING = re.compile(r"^\s*[【\[<〈《(■□◆◇●○◎#*・=-]|[::】\]>〉》)]\s*$|^\s*\S{1,12}\s*$")
_TITLE = re.compile(r"^\s*[【\[<〈《■□◆◇●○◎#]")
_SUPPLY = re.compile(r"(?<![0-9])[0-9]{1,3}\s{0,9}(?:日分|日間|TD|週間分)(?!以上|前|後)")
# A flag may stand between a row's last result and its unit. The unit has a slash, a percent sign or stands alone.
_TAIL_UNIT = re.compile(r"[\s)|]{0,99}(?:[HL↑↓]{1,2}[\s)|]{0,99})?([^\s|]{0,20}[A-Za-zμ]/[^\s|]{0,20}|%|/μL|万/μL|[×x]?10\^\d+/μL|秒|fL|pg|COI)[\s|]*")
_ARROW = re.compile("→|⇒|➡|->")


def distribute(
    lines: Sequence[SourceLine], statements: Sequence[Statement], fold: Callable[[str], str] = lambda text: text
) -> list[Statement]:
    """The statements in their order, with dates and days of supply that stand once for several of them, and with the
    reference ranges that stand beside results (`Field.REFERENCE`: the limits alone, 3.5-5.0, without brackets and unit).

    `fold` maps a line to ASCII digits and signs, character by character.
    """
    page = Page(lines, statements, fold)
    found = list(statements)
    columns = list(_column_dates(page))
    changes = [
        *((index, Field.DATE, span) for index, span in columns),
        *((index, Field.DATE, span) for index, span in _heading_dates(page, {index for index, _ in columns})),
        *((index, Field.UNIT, span) for index, span in _row_units(page)),
        *((index, Field.DAYS, span) for index, span in _supplies(page)),
        *((index, Field.REFERENCE, span) for index, span in reference_ranges(page)),
    ]
    for index, field, span in changes:
        fields = {key: value for key, value in found[index].fields.items() if key is not field}
        found[index] = found[index].model_copy(update={"fields": fields | ({field: span} if span else {})})
    return found


# -- tables ------------------------------------------------------------------------------------------------------------


def _column_dates(page: Page) -> Iterator[tuple[int, EvidenceSpan]]:
    """(statement, date of its column): rows below a line with two dates or more and no results of its own, or behind
    or below two dates that an arrow joins (検査 5/2→5/20: UA 8.2→5.9、LDL 131)."""
    for number in sorted(page.results):
        if found := _series(page, number):
            yield from _series_dates(page, number, *found)
            continue
        head = _head(page, number)
        if head is None:
            continue
        dates = list(DATE.finditer(page.texts[head]))
        rows = _undated(page, number)
        # Below a further title, a single result need not be a cell of the table any more.
        titled = any(_TITLE.match(page.texts[n]) for n in range(head + 1, number) if n not in page.results)
        for row in rows.values():
            if (len(rows) > 1 or titled) and len(row) < len(dates):
                continue  # several tests on one line are no row, but AST/ALT 24/31 28/30 is
            for index, column in zip(row, _columns(page, number, row, head, dates), strict=False):
                yield index, page.span(head, *dates[column].span())


def _undated(page: Page, number: int) -> dict[str, list[int]]:
    """Results of a line with a value and no date of their own there, by name, in the order of their values."""
    rows: dict[str, list[int]] = {}
    for index in page.by_line[number]:
        statement = page.statements[index]
        if page.is_result(index) and Field.VALUE in statement.fields and not _has_own_date(page, index):
            rows.setdefault(statement.name.quote, []).append(index)
    for row in rows.values():
        row.sort(key=lambda i: page.statements[i].fields[Field.VALUE].start)
    return rows


def _series(page: Page, number: int) -> tuple[int, list[re.Match[str]]] | None:
    """The line with the dates that an arrow joins, and those dates: before the first result of the line itself, or on
    a line above without results."""
    first = min(page.begin(i) for i in page.by_line[number]) - page.lines[number].start
    if dates := _joined_dates(page.texts[number][:first]):
        return number, dates
    for above in page.above(number):
        if above not in page.results and (dates := _joined_dates(page.texts[above])):
            return above, dates
    return None


def _series_dates(page: Page, number: int, head: int, dates: list[re.Match[str]]) -> Iterator[tuple[int, EvidenceSpan]]:
    """A test with one value was measured at the first sampling, which is the whole one; with as many as there are
    dates, at each of them; anything else is not clear."""
    for row in _undated(page, number).values():
        if len(row) in (1, len(dates)):
            yield from ((index, page.span(head, *date.span())) for index, date in zip(row, dates, strict=False))


def _head(page: Page, number: int) -> int | None:
    """The line above with the dates of the columns: through rows of results only, at most `LOOK_UP` lines."""
    for above in page.above(number):
        text = page.texts[above]
        if above not in page.results and len(DATE.findall(text)) >= 2:
            rest = DATE.sub("", text)
            # A head holds dates and a few words (検査, 項目, 単位), not a sentence about two days.
            return above if len(re.sub(r"[\s|:()\[\]【】]", "", rest)) <= 16 else None
    return None


def _columns(page: Page, number: int, row: list[int], head: int, dates: list[re.Match[str]]) -> list[int]:
    """For each result of a row the number of its column; empty where it is not clear."""
    if len(row) == len(dates):
        return list(range(len(dates)))
    if len(row) > len(dates):
        return []
    # Cells are missing: the column whose head starts nearest, in the width of characters on a screen, or by the
    # number of signs between cells where there are any.
    start = page.lines[number].start
    value_starts = [page.statements[i].fields[Field.VALUE].start - start for i in row]
    for sign in "\t|":
        if sign in page.texts[head] and sign in page.texts[number]:
            cells = [page.texts[head].count(sign, 0, date.start()) for date in dates]
            found = [page.texts[number].count(sign, 0, at) for at in value_starts]
            return [cells.index(cell) for cell in found] if set(found) <= set(cells) else []
    heads = [_width(page.lines[head].text[: date.start()]) for date in dates]
    values = [_width(page.lines[number].text[:at]) for at in value_starts]
    nearest = [min((abs(head - value), c) for c, head in enumerate(heads))[1] for value in values]
    return nearest if len(set(nearest)) == len(nearest) and nearest == sorted(nearest) else []


def _joined_dates(text: str) -> list[re.Match[str]]:
    """The dates of a heading of results that arrows join; none where there is other text between them."""
    dates = list(DATE.finditer(text))
    gaps = [text[a.end() : b.start()] for a, b in pairwise(dates)]
    if not gaps or len(text) > 60 or not _RESULTS.search(text[: dates[0].start()]):
        return []
    return dates if all(_ARROW.search(gap) and len(gap) <= 12 for gap in gaps) else []


def _width(text: str) -> int:
    """Columns that `text` takes on a screen with fixed pitch: two for wide characters (Unicode East Asian Width)."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


# -- headings ----------------------------------------------------------------------------------------------------------


def _heading_dates(page: Page, in_table: Set[int]) -> Iterator[tuple[int, EvidenceSpan | None]]:
    """(statement, date): results without a date of their own line, under or behind a heading of results that has
    exactly one date. None: the date that was read belongs to another result. Those `in_table` have one from its head."""
    for number in sorted(page.results):
        waiting = [i for i in page.by_line[number] if page.is_result(i) and i not in in_table]
        foreign = [i for i in waiting if _has_own_date(page, i) and _is_in_brackets_of_another(page, i)]
        waiting = [i for i in waiting if i in foreign or not _has_own_date(page, i)]
        if waiting and (span := _heading_date(page, number)):
            yield from ((index, span) for index in waiting)
        else:
            yield from ((i, None) for i in waiting if i in foreign or _is_of_another(page, i) or _begins_anew(page, number))


def _has_own_date(page: Page, index: int) -> bool:
    """Does the date stand on the result's own line?"""
    date = page.statements[index].fields.get(Field.DATE)
    line = page.lines[page.line_of[index]]
    return date is not None and line.start <= date.start <= line.start + len(line.text)


def _is_in_brackets_of_another(page: Page, index: int) -> bool:
    """HbA1c 7.2（前回 2/14 7.6）、Cre 0.9: the date in the brackets is that of the result in them, not of Cre."""
    line = page.lines[page.line_of[index]]
    date, value = (page.statements[index].fields.get(field) for field in (Field.DATE, Field.VALUE))
    if date is None or value is None:
        return False
    text = page.texts[page.line_of[index]]
    opened = text.rfind("(", 0, date.start - line.start)
    closed = text.find(")", date.end - line.start)
    if opened < 0 or closed < 0 or ")" in text[opened : date.start - line.start]:
        return False
    start, end = line.start + opened, line.start + closed
    others = (page.statements[i].fields.get(Field.VALUE) for i in page.by_line[page.line_of[index]] if i != index)
    return not start < value.start < end and any(other and start < other.start < end for other in others)


def _begins_anew(page: Page, number: int) -> bool:
    """Do the results of the line stand behind an undated heading of their own (入院時検査：)?"""
    first = min(page.begin(i) for i in page.by_line[number]) - page.lines[number].start
    return bool(_SAMPLING.search(page.texts[number][:first]))


def _is_of_another(page: Page, index: int) -> bool:
    """Does the date stand on a line above, behind a result there?"""
    date = page.statements[index].fields.get(Field.DATE)
    if date is None:
        return False
    above = bisect.bisect_right([line.start for line in page.lines], date.start) - 1
    return any(page.is_result(i) and page.begin(i) < date.start for i in page.by_line.get(above, ()))


def _heading_date(page: Page, number: int) -> EvidenceSpan | None:
    first = min(page.begin(i) for i in page.by_line[number]) - page.lines[number].start
    if _dated_heading(page.texts[number][:first]):
        return _only_date(page, number, first)
    if _begins_anew(page, number):
        return None
    for above in range(number - 1, max(-1, number - 1 - LOOK_UP), -1):
        text = page.texts[above]
        if not text.strip():
            return None
        if above in page.results:
            before = min(page.begin(i) for i in page.by_line[above]) - page.lines[above].start
            if _dated_heading(text[:before]):
                return _only_date(page, above, before)
            if _SAMPLING.search(text[:before]):
                return None
            continue
        if _dated_heading(text):
            return _only_date(page, above, len(text))
        if _HEADING.search(text) or above in page.by_line or len(text) > 20:
            return None
    return None


def _dated_heading(text: str) -> bool:
    return len(text) <= 40 and bool(_RESULTS.search(text)) and len(DATE.findall(text)) == 1


def _only_date(page: Page, number: int, end: int) -> EvidenceSpan:
    match = DATE.search(page.texts[number], 0, end)
    assert match
    return page.span(number, *match.span())


# -- units -------------------------------------------------------------------------------------------------------------


def _row_units(page: Page) -> Iterator[tuple[int, EvidenceSpan]]:
    """(statement, unit): results of one test on one line that have no unit, while another of them has one or the
    line ends with one (8.1 → 7.4 %, a table row with its unit in the last column)."""
    for number in sorted(page.results):
        rows: dict[EvidenceSpan, list[int]] = {}
        for index in page.by_line[number]:
            if page.is_result(index) and Field.VALUE in page.statements[index].fields:
                rows.setdefault(page.statements[index].name, []).append(index)
        for name, row in rows.items():
            units = [page.statements[i].fields.get(Field.UNIT) for i in row]
            written = next((unit for unit in units if unit), None)
            if written is None and len(row) > 1 and len(rows) == 1:
                end = max(page.statements[i].fields[Field.VALUE].end for i in row)
                written = _unit_behind(page, number, end)
            if written and len(row) > 1 and written != name:
                yield from ((i, written) for i, unit in zip(row, units, strict=True) if unit is None)


def _unit_behind(page: Page, number: int, end: int) -> EvidenceSpan | None:
    """A unit alone between `end` (but for a flag) and the end of the line."""
    match = _TAIL_UNIT.fullmatch(page.texts[number], end - page.lines[number].start)
    return page.span(number, *match.span(1)) if match else None


# -- days of supply ----------------------------------------------------------------------------------------------------


def _supplies(page: Page) -> Iterator[tuple[int, EvidenceSpan]]:
    """(statement, days): lists of drugs none of which has days, with a supply in their heading or right below."""
    drugs = [i for i, s in enumerate(page.statements) if s.kind is Kind.PRESCRIPTION]
    numbers = sorted({page.line_of[i] for i in drugs})
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        block = [number for _, number in run]
        members = [i for i in drugs if page.line_of[i] in set(block)]
        if any(Field.DAYS in page.statements[i].fields for i in members):
            continue
        for number in (block[-1] + 1, block[0] - 1):
            if not 0 <= number < len(page.texts) or number in page.by_line or len(page.texts[number]) > 40:
                continue
            supplies = list(_SUPPLY.finditer(page.texts[number]))
            if len(supplies) == 1:
                for index in members:
                    yield index, page.span(number, *supplies[0].span())
                break

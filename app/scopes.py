"""What the layout of a note says of its statements: the dates in the head of a table, the date of a heading, the unit of
a row, the days of supply of a whole list, the reference range beside a result or in its column. Each is given to the
statements it covers, with its own characters as evidence.

A model reads line by line and may miss what stands lines away; where a field belongs by the layout alone it is computed.
A date from another line gives way to the one that the layout proves; what stands on a statement's own line is kept.
A reference range is never written by a model: it is found by its place alone, and left out where the place is not clear.
"""

import bisect
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import groupby, pairwise
from typing import NamedTuple

from app.normalize import parse_quantity, parse_reference_range
from app.normalize.ranges import RANGE_LABEL
from schemas.note import SourceLine
from schemas.statement import EvidenceSpan, Field, Kind, Statement

# Dates as a head of a column or a heading has them; a lone "3月" is none in a table head, where it may be a price.
_DATE = re.compile(
    r"(?<![0-9./-])(?:(?:令和|平成|[RH])(?:元|[0-9]{1,2})[年./][0-9]{1,2}[月./][0-9]{1,2}日?"
    r"|(?:令和|平成)(?:元|[0-9]{1,2})年(?:[0-9]{1,2}月)?"
    r"|'?(?:[0-9]{4}|[0-9]{2})[年./-][0-9]{1,2}[月./-][0-9]{1,2}日?|[0-9]{4}[年./][0-9]{1,2}月?"
    r"|(?:1[0-2]|0?[1-9])(?:/|月)(?:3[01]|[12][0-9]|0?[1-9])日?|[0-9]{4}年)(?![0-9./])"
)
# Words of headings over results.
_RESULTS = re.compile(r"検査|採血|血液|感染症|データ|生化学|血算|凝固|検尿|尿所見|ラボ|[Ll]abo?\b|[Dd]ata|血ガス|腫瘍マーカー|ホルモン")
# Those of them that begin another sampling; the others (血算, 生化学 …) may be groups of one.
_SAMPLING = re.compile(r"検査|採血|データ|ラボ|[Ll]abo?\b|[Dd]ata")
_HEADING = re.compile(r"^\s*[【\[<〈《(■□◆◇●○◎#*・=-]|[::】\]>〉》)]\s*$|^\s*\S{1,12}\s*$")
_TITLE = re.compile(r"^\s*[【\[<〈《■□◆◇●○◎#]")
_SUPPLY = re.compile(r"(?<![0-9])[0-9]{1,3}\s{0,9}(?:日分|日間|TD|週間分)(?!以上|前|後)")
# A flag may stand between a row's last result and its unit. The unit has a slash, a percent sign or stands alone.
_TAIL_UNIT = re.compile(r"[\s)|]{0,99}(?:[HL↑↓]{1,2}[\s)|]{0,99})?([^\s|]{0,20}[A-Za-zμ]/[^\s|]{0,20}|%|/μL|万/μL|[×x]?10\^\d+/μL|秒|fL|pg|COI)[\s|]*")
_LOOK_UP = 25
_ARROW = re.compile("→|⇒|➡|->")

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


def distribute(
    lines: Sequence[SourceLine], statements: Sequence[Statement], fold: Callable[[str], str] = lambda text: text
) -> list[Statement]:
    """The statements in their order, with dates and days of supply that stand once for several of them, and with the
    reference ranges that stand beside results (`Field.REFERENCE`: the limits alone, 3.5-5.0, without brackets and unit).

    `fold` maps a line to ASCII digits and signs, character by character.
    """
    page = _Page(lines, statements, fold)
    found = list(statements)
    changes = [
        *((index, Field.DATE, span) for index, span in page.column_dates),
        *((index, Field.DATE, span) for index, span in page.heading_dates()),
        *((index, Field.UNIT, span) for index, span in page.row_units()),
        *((index, Field.DAYS, span) for index, span in page.supplies()),
        *((index, Field.REFERENCE, span) for index, span in page.references()),
    ]
    for index, field, span in changes:
        fields = {key: value for key, value in found[index].fields.items() if key is not field}
        found[index] = found[index].model_copy(update={"fields": fields | ({field: span} if span else {})})
    return found


class _Page:
    def __init__(self, lines: Sequence[SourceLine], statements: Sequence[Statement], fold: Callable[[str], str]) -> None:
        self.lines = lines
        self.statements = statements
        self.texts = [fold(line.text) for line in lines]
        starts = [line.start for line in lines]
        self.line_of = [bisect.bisect_right(starts, s.name.start) - 1 for s in statements]
        self.by_line: dict[int, list[int]] = {}
        for index, number in enumerate(self.line_of):
            self.by_line.setdefault(number, []).append(index)
        self.results = {n for n, i in self.by_line.items() if any(self._is_result(k) for k in i)}

    def _is_result(self, index: int) -> bool:
        return self.statements[index].kind in (Kind.LAB, Kind.INFECTION)

    def _begin(self, index: int) -> int:
        """Where the statement itself begins: its date may stand before it, on another line too."""
        return min(span.start for key, span in self.statements[index].fields.items() if key not in (Field.DATE, Field.DAYS))

    def _span(self, number: int, match: re.Match[str]) -> EvidenceSpan:
        line = self.lines[number]
        start, end = line.start + match.start(), line.start + match.end()
        return EvidenceSpan(start=start, end=end, quote=line.text[match.start() : match.end()])

    # -- tables -----------------------------------------------------------------------------------------------

    @cached_property
    def column_dates(self) -> tuple[tuple[int, EvidenceSpan], ...]:
        """(statement, date of its column): rows below a line with two dates or more and no results of its own, or behind
        or below two dates that an arrow joins (検査 10/9→10/28: UA 7.4→6.1、LDL 148)."""
        return tuple(self._column_dates())

    def _column_dates(self) -> Iterator[tuple[int, EvidenceSpan]]:
        for number in sorted(self.results):
            if found := self._series(number):
                yield from self._series_dates(number, *found)
                continue
            head = self._head(number)
            if head is None:
                continue
            dates = list(_DATE.finditer(self.texts[head]))
            rows = self._undated(number)
            # Below a further title, a single result need not be a cell of the table any more.
            titled = any(_TITLE.match(self.texts[n]) for n in range(head + 1, number) if n not in self.results)
            for row in rows.values():
                if (len(rows) > 1 or titled) and len(row) < len(dates):
                    continue  # several tests on one line are no row, but AST/ALT 24/31 28/30 is
                for index, column in zip(row, self._columns(number, row, head, dates), strict=False):
                    yield index, self._span(head, dates[column])

    def _undated(self, number: int) -> dict[str, list[int]]:
        """Results of a line with a value and no date of their own there, by name, in the order of their values."""
        rows: dict[str, list[int]] = {}
        for index in self.by_line[number]:
            statement = self.statements[index]
            if self._is_result(index) and Field.VALUE in statement.fields and not self._has_own_date(index):
                rows.setdefault(statement.name.quote, []).append(index)
        for row in rows.values():
            row.sort(key=lambda i: self.statements[i].fields[Field.VALUE].start)
        return rows

    def _series(self, number: int) -> tuple[int, list[re.Match[str]]] | None:
        """The line with the dates that an arrow joins, and those dates: before the first result of the line itself, or on
        a line above without results."""
        first = min(self._begin(i) for i in self.by_line[number]) - self.lines[number].start
        if dates := _joined_dates(self.texts[number][:first]):
            return number, dates
        for above in self._above(number):
            if above not in self.results and (dates := _joined_dates(self.texts[above])):
                return above, dates
        return None

    def _series_dates(self, number: int, head: int, dates: list[re.Match[str]]) -> Iterator[tuple[int, EvidenceSpan]]:
        """A test with one value was measured at the first sampling, which is the whole one; with as many as there are
        dates, at each of them; anything else is not clear."""
        for row in self._undated(number).values():
            if len(row) in (1, len(dates)):
                yield from ((index, self._span(head, date)) for index, date in zip(row, dates, strict=False))

    def _head(self, number: int) -> int | None:
        """The line above with the dates of the columns: through rows of results only, at most 25 lines."""
        for above in self._above(number):
            text = self.texts[above]
            if above not in self.results and len(_DATE.findall(text)) >= 2:
                rest = _DATE.sub("", text)
                # A head holds dates and a few words (検査, 項目, 単位), not a sentence about two days.
                return above if len(re.sub(r"[\s|:()\[\]【】]", "", rest)) <= 16 else None
        return None

    def _above(self, number: int) -> Iterator[int]:
        """The lines above that may be the head of a table: at most 25, up to a blank line or a sentence."""
        for above in range(number - 1, max(-1, number - 1 - _LOOK_UP), -1):
            yield above
            text = self.texts[above]
            if not text.strip() or (above not in self.results and len(text.strip()) > 30):
                return

    def _columns(self, number: int, row: list[int], head: int, dates: list[re.Match[str]]) -> list[int]:
        """For each result of a row the number of its column; empty where it is not clear."""
        if len(row) == len(dates):
            return list(range(len(dates)))
        if len(row) > len(dates):
            return []
        # Cells are missing: the column whose head starts nearest, in the width of characters on a screen, or by the
        # number of signs between cells where there are any.
        start = self.lines[number].start
        value_starts = [self.statements[i].fields[Field.VALUE].start - start for i in row]
        for sign in "\t|":
            if sign in self.texts[head] and sign in self.texts[number]:
                cells = [self.texts[head].count(sign, 0, date.start()) for date in dates]
                found = [self.texts[number].count(sign, 0, at) for at in value_starts]
                return [cells.index(cell) for cell in found] if set(found) <= set(cells) else []
        heads = [_width(self.lines[head].text[: date.start()]) for date in dates]
        values = [_width(self.lines[number].text[:at]) for at in value_starts]
        nearest = [min((abs(head - value), c) for c, head in enumerate(heads))[1] for value in values]
        return nearest if len(set(nearest)) == len(nearest) and nearest == sorted(nearest) else []

    # -- headings ---------------------------------------------------------------------------------------------

    def heading_dates(self) -> Iterator[tuple[int, EvidenceSpan | None]]:
        """(statement, date): results without a date of their own line, under or behind a heading of results that has
        exactly one date. None: the date that was read belongs to another result."""
        in_table = {index for index, _ in self.column_dates}
        for number in sorted(self.results):
            waiting = [i for i in self.by_line[number] if self._is_result(i) and i not in in_table]
            foreign = [i for i in waiting if self._has_own_date(i) and self._is_in_brackets_of_another(i)]
            waiting = [i for i in waiting if i in foreign or not self._has_own_date(i)]
            if waiting and (span := self._heading_date(number)):
                yield from ((index, span) for index in waiting)
            else:
                yield from ((i, None) for i in waiting if i in foreign or self._is_of_another(i) or self._begins_anew(number))

    def _has_own_date(self, index: int) -> bool:
        """Does the date stand on the result's own line?"""
        date = self.statements[index].fields.get(Field.DATE)
        line = self.lines[self.line_of[index]]
        return date is not None and line.start <= date.start <= line.start + len(line.text)

    def _is_in_brackets_of_another(self, index: int) -> bool:
        """HbA1c 7.2（前回 2/14 7.6）、Cre 0.9: the date in the brackets is that of the result in them, not of Cre."""
        line = self.lines[self.line_of[index]]
        date, value = (self.statements[index].fields.get(field) for field in (Field.DATE, Field.VALUE))
        if date is None or value is None:
            return False
        text = self.texts[self.line_of[index]]
        opened = text.rfind("(", 0, date.start - line.start)
        closed = text.find(")", date.end - line.start)
        if opened < 0 or closed < 0 or ")" in text[opened : date.start - line.start]:
            return False
        start, end = line.start + opened, line.start + closed
        others = (self.statements[i].fields.get(Field.VALUE) for i in self.by_line[self.line_of[index]] if i != index)
        return not start < value.start < end and any(other and start < other.start < end for other in others)

    def _begins_anew(self, number: int) -> bool:
        """Do the results of the line stand behind an undated heading of their own (入院時検査：)?"""
        first = min(self._begin(i) for i in self.by_line[number]) - self.lines[number].start
        return bool(_SAMPLING.search(self.texts[number][:first]))

    def _is_of_another(self, index: int) -> bool:
        """Does the date stand on a line above, behind a result there?"""
        date = self.statements[index].fields.get(Field.DATE)
        if date is None:
            return False
        above = bisect.bisect_right([line.start for line in self.lines], date.start) - 1
        return any(self._is_result(i) and self._begin(i) < date.start for i in self.by_line.get(above, ()))

    def _heading_date(self, number: int) -> EvidenceSpan | None:
        first = min(self._begin(i) for i in self.by_line[number]) - self.lines[number].start
        if self._dated_heading(self.texts[number][:first]):
            return self._only_date(number, first)
        if self._begins_anew(number):
            return None
        for above in range(number - 1, max(-1, number - 1 - _LOOK_UP), -1):
            text = self.texts[above]
            if not text.strip():
                return None
            if above in self.results:
                before = min(self._begin(i) for i in self.by_line[above]) - self.lines[above].start
                if self._dated_heading(text[:before]):
                    return self._only_date(above, before)
                if _SAMPLING.search(text[:before]):
                    return None
                continue
            if self._dated_heading(text):
                return self._only_date(above, len(text))
            if _HEADING.search(text) or above in self.by_line or len(text) > 20:
                return None
        return None

    @staticmethod
    def _dated_heading(text: str) -> bool:
        return len(text) <= 40 and bool(_RESULTS.search(text)) and len(_DATE.findall(text)) == 1

    def _only_date(self, number: int, end: int) -> EvidenceSpan:
        match = _DATE.search(self.texts[number], 0, end)
        assert match
        return self._span(number, match)

    # -- units ------------------------------------------------------------------------------------------------

    def row_units(self) -> Iterator[tuple[int, EvidenceSpan]]:
        """(statement, unit): results of one test on one line that have no unit, while another of them has one or the
        line ends with one (8.1 → 7.4 %, a table row with its unit in the last column)."""
        for number in sorted(self.results):
            rows: dict[EvidenceSpan, list[int]] = {}
            for index in self.by_line[number]:
                if self._is_result(index) and Field.VALUE in self.statements[index].fields:
                    rows.setdefault(self.statements[index].name, []).append(index)
            for name, row in rows.items():
                units = [self.statements[i].fields.get(Field.UNIT) for i in row]
                written = next((unit for unit in units if unit), None)
                if written is None and len(row) > 1 and len(rows) == 1:
                    end = max(self.statements[i].fields[Field.VALUE].end for i in row)
                    written = self._unit_behind(number, end)
                if written and len(row) > 1 and written != name:
                    yield from ((i, written) for i, unit in zip(row, units, strict=True) if unit is None)

    def _unit_behind(self, number: int, end: int) -> EvidenceSpan | None:
        """A unit alone between `end` (but for a flag) and the end of the line."""
        line = self.lines[number]
        match = _TAIL_UNIT.fullmatch(self.texts[number], end - line.start)
        if match is None:
            return None
        start, stop = (line.start + place for place in match.span(1))
        return EvidenceSpan(start=start, end=stop, quote=line.text[match.start(1) : match.end(1)])

    # -- reference ranges -------------------------------------------------------------------------------------

    def references(self) -> Iterator[tuple[int, EvidenceSpan]]:
        """(statement, its reference range): behind its value, unit and flag, in brackets or after 基準値, or else in the
        column of a table whose head says 基準値."""
        measured = [i for i in range(len(self.statements)) if self._is_result(i) and self._place(i, Field.VALUE)]
        beside = [(index, found) for index in measured if (found := self._range_beside(index))]
        # (8-20) may be the 20th of August, unless other ranges of the note are written in the same way.
        ranges = [(i, found) for i, found in beside if not found.like_a_date or any(not f.like_a_date for _, f in beside)]
        done = {index for index, _ in ranges}
        for number in sorted(self.results):
            row = [i for i in self.by_line[number] if i in measured]
            names = {self.statements[i].name.quote for i in row}
            found = self._range_in_column(number, row) if len(names) == 1 else None
            ranges += [(i, found) for i in row if found and i not in done]
        for index, found in ranges:
            line = self.lines[self.line_of[index]]
            quote = line.text[found.start : found.end]
            if self._is_plausible(index, quote):
                yield index, EvidenceSpan(start=line.start + found.start, end=line.start + found.end, quote=quote)

    def _place(self, index: int, field: Field) -> tuple[int, int] | None:
        """Offsets of a field in the line of the statement's name; None when it is not there."""
        span, line = self.statements[index].fields.get(field), self.lines[self.line_of[index]]
        if span is None or not line.start <= span.start < span.end <= line.start + len(line.text):
            return None
        return span.start - line.start, span.end - line.start

    def _range_beside(self, index: int) -> "_Range | None":
        number = self.line_of[index]
        text = self.texts[number]
        at = self._behind(index)
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
        if match is None or self._is_taken(number, *match.span()):
            return None
        unit = text[match.end() : end].strip() if bracket else self._unit_at(index, text, match.end())
        if unit is None or not self._is_own_unit(index, unit):
            return None
        piece = match[0]
        if not labelled and _is_years(piece):
            return None
        return _Range(*match.span(), like_a_date=not labelled and not unit and _is_like_a_date(piece))

    def _behind(self, index: int) -> int:
        """The end of the value, and of the unit and flag that follow it."""
        text = self.texts[self.line_of[index]]
        value = self._place(index, Field.VALUE)
        assert value
        own = [place for field in (Field.UNIT, Field.FLAG) if (place := self._place(index, field))]
        at, unit_read = value[1], self._place(index, Field.UNIT) is not None
        while True:
            at += len(text[at:]) - len(text[at:].lstrip())
            read = next((end for start, end in own if start == at), None)
            if read is None and text[at : at + 1] in ("(", "["):  # 56.7 (mL/min), 5% [高値]
                read = next((end + 1 for start, end in own if start == at + 1 and text[end : end + 1] in (")", "]")), None)
            match = _FLAG.match(text, at) or (None if unit_read else _UNIT.match(text, at))
            if read is None and match is None:
                return at
            at = read if read is not None else match.end() if match else at

    def _unit_at(self, index: int, text: str, at: int) -> str | None:
        """The unit behind an unbracketed range, "" for none; None when something else follows the range there."""
        word = re.split(r"[\s、,。;()|]", text[at:].lstrip())[0]
        if self._is_own_unit(index, word):
            return word
        # Another word behind a space is the next thing on the line, unless it is a unit that is not the result's.
        return "" if text[at].isspace() and not _UNIT.match(word) and word[0] not in "万千×" else None

    def _is_own_unit(self, index: int, unit: str) -> bool:
        """Is `unit`, written behind a range, that of the result? Another unit would make other limits of it."""
        place = self._place(index, Field.UNIT)
        if not unit:
            return True
        if place:
            return self.texts[self.line_of[index]][slice(*place)].replace(" ", "") == unit.replace(" ", "")
        # A result without a unit of its own: the one in the brackets may have been meant for both, but not a factor.
        return bool(_UNIT.fullmatch(unit)) and unit[0] not in "万千×x1"

    def _is_taken(self, number: int, start: int, end: int) -> bool:
        """Is a part of the place a name, value or date of some statement already?"""
        start, end = start + self.lines[number].start, end + self.lines[number].start
        return any(
            span.start < end and start < span.end for statement in self.statements for span in statement.fields.values()
        )

    def _range_in_column(self, number: int, row: list[int]) -> "_Range | None":
        """The range of a row in the column whose head says so: by the signs between cells, else the only one behind the
        results (or before them, where the column stands before theirs)."""
        label = self._range_head(number)
        if label is None:
            return None
        head, text = label.string, self.texts[number]
        values = [place for i in row if (place := self._place(i, Field.VALUE))]
        area = (max(end for _, end in values), len(text))
        sign = next((sign for sign in "\t|" if sign in head and sign in text), None)
        if sign:
            cells = [-1, *(at for at, char in enumerate(text) if char == sign), len(text)]
            column = head.count(sign, 0, label.start())
            if column + 1 >= len(cells):
                return None
            area = (cells[column] + 1, cells[column + 1])
        elif not (_DATE.search(head, 0, label.start()) or _RESULT_COLUMN.search(head, 0, label.start())):
            name = self._place(row[0], Field.NAME)
            area = (name[1] if name else 0, min(start for start, _ in values))
        matches = [m for m in _RANGE.finditer(text, *area) if not self._is_taken(number, *m.span())]
        if len(matches) != 1:
            return None
        [match] = matches
        before, behind = text[area[0] : match.start()], text[match.end() : area[1]]
        # A cell between signs holds nothing else; between spaces the range is a word of its own.
        before, behind = (before.strip(), behind.strip()) if sign else (before[-1:].strip(), re.split(r"[\s|]", behind)[0])
        clear = before in ("", "(", "[") and self._is_own_unit(row[0], behind.strip(")]"))
        return _Range(*match.span(), like_a_date=False) if clear else None

    def _range_head(self, number: int) -> re.Match[str] | None:
        """The label of the column of reference ranges in the head of the table that the row is in."""
        for above in self._above(number):
            text = self.texts[above]
            if above in self.results:
                continue
            dates = len(_DATE.findall(text))
            label = RANGE_LABEL.search(text)
            rest = RANGE_LABEL.sub("", _DATE.sub("", text))
            words = re.sub(r"[\s|:()\[\]【】/・-]", "", rest)
            # A head holds a few words (項目, 結果, 単位, 判定) and no numbers but those of dates.
            if label and (words or dates) and len(words) <= 20 and not re.search("[0-9。]", words):
                return label
            if label or dates >= 2:
                return None
        return None

    def _is_plausible(self, index: int, quote: str) -> bool:
        """Is `quote` a range, and one that a number as the result's may stand beside?"""
        limits = parse_reference_range(quote)
        if limits is None:
            return False
        quantity = parse_quantity(self.statements[index].fields[Field.VALUE].quote, None)
        if quantity is None or quantity.value <= 0:
            return quantity is not None
        low, high = limits
        not_above = high is None or high <= 0 or quantity.value <= high * _FAR_ABOVE
        return not_above and (low is None or low <= quantity.value * _FAR_BELOW)

    # -- days of supply ---------------------------------------------------------------------------------------

    def supplies(self) -> Iterator[tuple[int, EvidenceSpan]]:
        """(statement, days): lists of drugs none of which has days, with a supply in their heading or right below."""
        drugs = [i for i, s in enumerate(self.statements) if s.kind is Kind.PRESCRIPTION]
        numbers = sorted({self.line_of[i] for i in drugs})
        for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
            block = [number for _, number in run]
            members = [i for i in drugs if self.line_of[i] in set(block)]
            if any(Field.DAYS in self.statements[i].fields for i in members):
                continue
            for number in (block[-1] + 1, block[0] - 1):
                if not 0 <= number < len(self.texts) or number in self.by_line or len(self.texts[number]) > 40:
                    continue
                supplies = list(_SUPPLY.finditer(self.texts[number]))
                if len(supplies) == 1:
                    for index in members:
                        yield index, self._span(number, supplies[0])
                    break


def _joined_dates(text: str) -> list[re.Match[str]]:
    """The dates of a heading of results that arrows join; none where there is other text between them."""
    dates = list(_DATE.finditer(text))
    gaps = [text[a.end() : b.start()] for a, b in pairwise(dates)]
    if not gaps or len(text) > 60 or not _RESULTS.search(text[: dates[0].start()]):
        return []
    return dates if all(_ARROW.search(gap) and len(gap) <= 12 for gap in gaps) else []


def _width(text: str) -> int:
    """Columns that `text` takes on a screen with fixed pitch: two for wide characters (Unicode East Asian Width)."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class _Range(NamedTuple):
    """A reference range in its line: half-open offsets; may it be read as month and day?"""

    start: int
    end: int
    like_a_date: bool


def _is_like_a_date(piece: str) -> bool:
    return re.fullmatch(r"(?:1[0-2]|[1-9])-(?:3[01]|[12][0-9]|[1-9])", piece) is not None


def _is_years(piece: str) -> bool:
    numbers = re.findall("[0-9]+", piece)
    return not re.search("[<>≦≧≤≥以未]", piece) and all(re.fullmatch("(?:19|20)[0-9]{2}", n) for n in numbers)

"""Charts as SVG, drawn here and shown without a script; every text in them is escaped.

Each says in its `aria-label` what it shows, takes the colour of text from its page, and tells its series apart by more than
colour (WCAG 2.2, 1.1.1 and 1.4.1).
"""

import html
from collections.abc import Callable, Mapping, Sequence

INK = "#1f5f99"
_AXIS = "#76838f"
_WIDTH = 700
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 15, 670, 180
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 4")
_COLOURS = (INK, "#9a4a00", "#1b7a3d", "#8a2f8f", "#5b6b7a", "#a3241c")


def count(value: float) -> str:
    return f"{value:,.0f}"


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def bars(
    rows: Sequence[tuple[str, float]], shown: Callable[[float], str] = count, *, most: float | None = None
) -> str:
    """A horizontal bar a row. `most`: value of the longest bar; default, the largest of `rows`."""
    longest = most or max((value for _, value in rows), default=0) or 1
    height = 24 * len(rows)
    parts = []
    for number, (name, value) in enumerate(rows):
        y = 24 * number
        width = round(440 * min(value / longest, 1.0), 1)
        parts.append(
            f'<text x="150" y="{y + 16}" text-anchor="end">{_text(name)}</text>'
            f'<rect x="160" y="{y + 3}" width="{width}" height="17" fill="{INK}"/>'
            f'<text x="{166 + width}" y="{y + 16}">{_text(shown(value))}</text>'
        )
    return _svg(", ".join(f"{name} {shown(value)}" for name, value in rows), "".join(parts), height)


def curve(points: Sequence[tuple[str, int]], what: str, after: str = "") -> str:
    """A line from 0 through points over evenly spaced instants, rising. `after`: behind the last instant."""
    most, last = points[-1][1] or 1, max(len(points) - 1, 1)
    places = [(_LEFT + 600 * n / last, _BOTTOM - 160 * value / most) for n, (_, value) in enumerate(points)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(float(_LEFT), float(_BOTTOM)), *places])
    body = (
        f'<polyline points="{line}" fill="none" stroke="{INK}" stroke-width="2"/>'
        + _scale(most, count)
        + _ends(points[0][0], points[-1][0] + after)
    )
    return _svg(f"{most} {what} from {points[0][0]} to {points[-1][0]}", _axes() + body, 210)


def columns(points: Sequence[tuple[str, int]]) -> str:
    """A column for each of evenly spaced times; none where `points` has 0."""
    most = max((value for _, value in points), default=0) or 1
    step = (_RIGHT - _LEFT) / max(len(points), 1)
    parts = [
        f'<rect x="{_LEFT + n * step + step * 0.1:.1f}" y="{_BOTTOM - 160 * value / most:.1f}" width="{step * 0.8:.1f}"'
        f' height="{160 * value / most:.1f}" fill="{INK}"><title>{_text(f"{name}: {value:,}")}</title></rect>'
        for n, (name, value) in enumerate(points)
        if value
    ]
    body = "".join(parts) + _scale(most, count) + (_ends(points[0][0], points[-1][0]) if points else "")
    return _svg(", ".join(f"{name} {value}" for name, value in points), _axes() + body, 210)


def lines(names: Sequence[str], series: Mapping[str, Sequence[float | None]], *, most: float = 1.0) -> str:
    """A line for each series over evenly spaced times `names`; it is broken where a value is not known."""
    last = max(len(names) - 1, 1)
    parts, keys = [], []
    for number, (name, values) in enumerate(series.items()):
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
        stroke = f'stroke="{colour}" stroke-width="2"' + (f' stroke-dasharray="{dash}"' if dash else "")
        for piece in _pieces(values):
            places = [(_LEFT + 600 * n / last, _BOTTOM - 160 * min(value / most, 1.0)) for n, value in piece]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline points="{points}" fill="none" {stroke}/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        y = 222 + 20 * number
        keys.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + 50}" y1="{y - 4}" y2="{y - 4}" {stroke}/><text x="{_LEFT + 60}" y="{y}">{_text(name)}</text>'
        )
    said = "; ".join(
        f"{name}: " + ", ".join(f"{at} {'-' if value is None else percent(value)}" for at, value in zip(names, values, strict=True))
        for name, values in series.items()
    )
    body = _axes() + "".join(parts) + _scale(most, percent) + (_ends(names[0], names[-1]) if names else "") + "".join(keys)
    return _svg(said, body, 215 + 20 * len(series))


def reliability(bins: Sequence[tuple[float, float, int]]) -> str:
    """A calibration plot: stated probability to the right, share that was right upwards, both 0 to 1; on the dashed line the
    two agree. `bins`: (stated, right, how many); the area of a dot grows with how many."""
    most = max((number for _, _, number in bins), default=0) or 1

    def place(stated: float, right: float) -> tuple[float, float]:
        return 60 + 300 * stated, 330 - 300 * right

    dots = []
    for stated, right, number in bins:
        x, y = place(stated, right)
        radius = 4 + 10 * (number / most) ** 0.5
        title = f"{percent(stated)}: {percent(right)}, {number:,}"
        dots.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{INK}" fill-opacity="0.8"><title>{_text(title)}</title></circle>'
        )
    frame = (
        f'<path d="M60 30V330H360" fill="none" stroke="{_AXIS}"/>'
        f'<line x1="60" y1="330" x2="360" y2="30" stroke="{_AXIS}" stroke-dasharray="5 4"/>'
        '<text x="55" y="36" text-anchor="end">100%</text><text x="55" y="334" text-anchor="end">0%</text>'
        '<text x="360" y="350" text-anchor="end">100%</text>'
    )
    said = ", ".join(f"{percent(stated)} stated, {percent(right)} right ({number})" for stated, right, number in bins)
    return _svg(said, frame + "".join(dots), 360)


def _pieces(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Runs of values that are known, each with its place."""
    found: list[list[tuple[int, float]]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            found.append([])
        else:
            found[-1].append((number, value))
    return [piece for piece in found if piece]


def _axes() -> str:
    return f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="{_AXIS}"/>'


def _scale(most: float, shown: Callable[[float], str]) -> str:
    return (
        f'<text x="55" y="24" text-anchor="end">{_text(shown(most))}</text>'
        f'<text x="55" y="184" text-anchor="end">{_text(shown(0))}</text>'
    )


def _ends(first: str, last: str) -> str:
    return f'<text x="{_LEFT}" y="200">{_text(first)}</text><text x="{_RIGHT}" y="200" text-anchor="end">{_text(last)}</text>'


def _svg(label: str, body: str, height: int) -> str:
    return (
        f'<svg role="img" aria-label="{_text(label)}" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
        f' font-size="13" fill="currentColor">{body}</svg>'
    )


def _text(value: str) -> str:
    return html.escape(value)

"""What several checks find about one resource, told once."""

import re
from collections.abc import Iterable

from app.fhir import rules
from schemas.issue import Issue, IssueType, Severity


class Findings:
    def __init__(self) -> None:
        self.issues: list[Issue] = []
        self.structural: set[str] = set()
        """Texts of what fhir.resources found."""

    def add(self, code: IssueType, path: str, what: str, severity: Severity = Severity.ERROR) -> None:
        self.issues.append(Issue(severity=severity, code=code, text=f"{path}: {what}"))

    def take(self, faults: Iterable[rules.Fault]) -> None:
        for fault in faults:
            self.add(fault.code, fault.path, fault.what, fault.severity)


# The key of an invariant (`con-4`, `condition-needs-onsetDateTime`) and the number that JP-CLINS gives its rules.
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)+|R\d{3,5}[A-Z]?")
_SAME_KIND = {IssueType.REQUIRED, IssueType.CODE_INVALID, IssueType.VALUE, IssueType.NOT_FOUND}


def once(found: Findings, by_profile: list[Issue]) -> list[Issue]:
    """What is found by two means is told once, by the deeper path, then by the more severe."""
    if not by_profile:
        return found.issues
    kept: list[Issue] = []
    places: dict[str, list[Issue]] = {}
    for issue in by_profile:
        places.setdefault(_path(issue), []).append(issue)
    told: dict[str, list[str]] = {}
    for issue in found.issues:
        path, twins = _path(issue), places.get(_path(issue), [])
        if issue.text in found.structural and _covered(path, places):
            continue
        if issue.code in _SAME_KIND and any(t.code == issue.code and _rank(t) >= _rank(issue) for t in twins):
            continue
        kept.append(issue)
        for key in _keys(issue):
            told.setdefault(key, []).append(path)
        for twin in twins:
            if issue.code in _SAME_KIND and twin.code == issue.code:
                places[path] = [t for t in places[path] if t is not twin]
    remaining = [issue for issues in places.values() for issue in issues]
    order = {id(issue): n for n, issue in enumerate(by_profile)}
    texts = {issue.text for issue in kept}
    for issue in sorted(remaining, key=lambda i: order[id(i)]):
        path = _path(issue)
        if issue.text not in texts and not any(_within(other, path) for key in _keys(issue) for other in told.get(key, ())):
            kept.append(issue)
    return kept


def _path(issue: Issue) -> str:
    return issue.text.partition(": ")[0]


def _keys(issue: Issue) -> list[str]:
    if issue.code not in (IssueType.BUSINESS_RULE, IssueType.REQUIRED, IssueType.VALUE):
        return []
    return _KEY.findall(" ".join(issue.text.partition(": ")[2].split()[:2]))


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _covered(path: str, places: dict[str, list[Issue]]) -> bool:
    """Has the profile walk an error of form there or below?"""
    return any(
        _within(other, path) and any(i.severity == Severity.ERROR and i.code != IssueType.BUSINESS_RULE for i in issues)
        for other, issues in places.items()
    )


def _rank(issue: Issue) -> int:
    return (Severity.INFORMATION, Severity.WARNING, Severity.ERROR, Severity.FATAL).index(issue.severity)

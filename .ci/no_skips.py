"""A pytest plugin: a skipped test fails the run, unless it has one of the markers named in MAY_SKIP (`official`: the
publishers' packages may not be redistributed)."""

import os

import pytest

_MAY_SKIP = set(os.environ.get("MAY_SKIP", "official").split(","))
_skipped: list[str] = []


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and not _MAY_SKIP & set(getattr(report, "keywords", ())):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("skipped, which fails this run", red=True, bold=True)
        for line in _skipped:
            terminalreporter.line(line)

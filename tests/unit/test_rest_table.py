"""docs/fhir-rest.md names a test for each rule, and each of them is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_rule_names_tests_that_are_there() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\|(.*)\|$", (ROOT / "docs/fhir-rest.md").read_text("utf-8"), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 52))
    for number, tests in rows:
        named = re.findall(r"`([a-z_/0-9]+\.py)::(test_[a-z_0-9]+)`", tests)
        assert named, number
        for file, test in named:
            assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text("utf-8"), (number, file, test)

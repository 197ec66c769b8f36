"""Whatever a sender states and a reader finds: it is built without failing, and the checks have nothing against it."""

import re
from typing import Any

import pytest
from random_records import bundles, made

from app.fhir import assert_known_codes, check, dumps, loads
from app.fhir.codes import given
from schemas.issue import Severity

# What JP-CLINS forbids in the texts of an Observation (its notes page): half-width katakana, full-width space, control.
FORBIDDEN = re.compile("[\uff61-\uff9f\u3000\x00-\x1f\x7f]")


def texts(node: Any) -> list[str]:
    if isinstance(node, list):
        return [text for item in node for text in texts(item)]
    if not isinstance(node, dict):
        return []
    own = [value for key, value in node.items() if key in ("text", "display") and isinstance(value, str)]
    return own + [text for value in node.values() for text in texts(value)]


@pytest.mark.parametrize("block", range(4))
def test_random_notes_pass_their_own_checks(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        case, resources = made(seed)
        assert len({(r["resourceType"], r["id"]) for r in resources}) == len(resources), seed
        for resource in resources:
            assert_known_codes(resource, given(case.records))
            assert dumps(loads(dumps(resource))) == dumps(resource)
            if resource["resourceType"] == "Observation":
                assert not any(map(FORBIDDEN.search, texts({k: v for k, v in resource.items() if k != "contained"}))), seed
        for bundle in bundles(case, resources):
            found = [i.text for i in check(bundle) if i.severity is not Severity.INFORMATION]
            assert found == [], (seed, found[:3])

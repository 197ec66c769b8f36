"""Random notes against the publishers' profiles: no error in the collection, nor in anything that is sent of it."""

import pytest
from random_records import bundles, made

from app.fhir import check
from app.fhir.profiles import Profiles
from app.fhir.validate import held_back


@pytest.mark.parametrize("block", range(4))
def test_random_notes_obey_the_profiles(block: int, profiles: Profiles, lab: dict[tuple[str, str], str]) -> None:
    sent = 0
    for seed in range(block * 25, block * 25 + 25):
        for bundle in bundles(*made(seed)):
            sent += "profile" in bundle["meta"]
            found = check(bundle, profiles=profiles, lab=lab)
            assert not held_back(found), (seed, [i.text for i in found if held_back([i])][:3])
    assert sent > 5

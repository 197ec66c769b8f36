"""Every test of this folder needs the publishers' packages and is skipped without them."""

from pathlib import Path

import pytest
from published import PACKAGES

from app.fhir.profiles import ImportReport, Profiles, import_profiles
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.official)
            if not PACKAGES.is_dir():
                item.add_marker(pytest.mark.skip(reason="no official packages (HYOJUN_STANDARDS)"))


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImportReport]:
    target = tmp_path_factory.mktemp("profiles") / "profiles.bin"
    return target, import_profiles([PACKAGES], target)


@pytest.fixture(scope="session")
def profiles(imported: tuple[Path, ImportReport]) -> Profiles:
    return Profiles.open(imported[0])


@pytest.fixture(scope="session")
def lab() -> dict[tuple[str, str], str]:
    """(system, code) -> FHIR識別名, from our own starter tables."""
    return dict(Lexicon(starter_entries(), starter_version()).lab_displays)

"""Every test of this folder needs the publishers' packages and is skipped without them."""

import csv
from pathlib import Path

import pytest
from published import CHECKOUT, PACKAGES

from app.fhir.profiles import ImportReport, Profiles, import_profiles

_STARTER = CHECKOUT / "app" / "terminology" / "starter"
_JLAC10 = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_"


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
    table: dict[tuple[str, str], str] = {}
    for file, system, display in (("lab_items", "CoreLabo_CS", "core"), ("infections", "InfectionLabo_CS", "display")):
        with (_STARTER / f"{file}.tsv").open(encoding="utf-8", newline="") as rows:
            for row in csv.DictReader(rows, delimiter="\t"):
                if row["code"] and row[display]:
                    table[(_JLAC10 + system, row["code"])] = row[display]
    return table

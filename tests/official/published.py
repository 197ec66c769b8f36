"""The publishers' packages and examples, where there are any: HYOJUN_STANDARDS, or shared/standards beside the checkout.

Layout: `fhir/packages` (FHIR npm packages: HL7 FHIR R4 core and extensions, JP Core 1.1.2, JP-CLINS 1.10.0, eCheckup
1.5.0) and `fhir/examples` (the publishers' example resources, a folder for each release).
"""

import os
from pathlib import Path
from typing import Any

from app.fhir import loads

CHECKOUT = Path(__file__).parents[2]
STANDARDS = Path(os.environ.get("HYOJUN_STANDARDS") or CHECKOUT.parent / "shared" / "standards")
PACKAGES = STANDARDS / "fhir" / "packages"
EXAMPLES = STANDARDS / "fhir" / "examples"


def example_files(folder: str) -> list[Path]:
    return sorted((EXAMPLES / folder).glob("*.json"))


def example(folder: str, name: str) -> dict[str, Any]:
    return loads((EXAMPLES / folder / f"{name}.json").read_bytes())

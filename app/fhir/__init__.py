"""FHIR R4 (JP Core, JP-CLINS): records to resources, Bundles, JSON text, and their checks.

Local names, where no standard has one (base `http://hyojun.local/fhir`):
- extension `StructureDefinition/confidence`, valueDecimal 0..1, on a resource made from a statement: the probability that
  it is right where the model has a calibration, else the model's own confidence;
- extension `StructureDefinition/run`, valueString, on Provenance: the id of the generation run;
- identifier systems `NamingSystem/note`, `/bundle`, `/patient`, `/practitioner`, `/encounter`;
- laboratory items: `HYJ-` and 16 hex digits in the CLINS local code system, a hash of the folded written name.
"""

from app.fhir.build import build_resources
from app.fhir.bundle import collection, dumps, loads
from app.fhir.codes import given
from app.fhir.profiles import ImportReport, Profiles, import_profiles
from app.fhir.source import Facility, ProvenanceSource, verification
from app.fhir.validate import assert_known_codes, check, held_back

__all__ = [
    "Facility",
    "ImportReport",
    "Profiles",
    "ProvenanceSource",
    "assert_known_codes",
    "build_resources",
    "check",
    "collection",
    "dumps",
    "given",
    "held_back",
    "import_profiles",
    "loads",
    "verification",
]

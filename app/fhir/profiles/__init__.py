"""Profiles: what the publishers' FHIR packages ask of a resource, checked without a network and without Java.

`import_profiles` compiles packages into one file; `Profiles.open` reads it; `Profiles.check` walks the snapshots.
"""

from app.fhir.profiles.packages import ImportReport, import_profiles
from app.fhir.profiles.store import Profiles

__all__ = ["ImportReport", "Profiles", "import_profiles"]

"""Code masters into the database, and the lexicon out of it.

`files` reads, `layouts` checks, `diseases` `drugs` `jlac_jfagy` `codesystem` know the masters, `releases` stores them,
`active` makes a lexicon of what is in use.
"""

from app.terminology.importers.active import (
    STARTER_SYSTEM,
    keep_version,
    lexicon_from,
    lexicon_of,
    load_starter,
    renewed,
    terminology_version,
)
from app.terminology.importers.releases import (
    KINDS,
    Imported,
    Release,
    Report,
    import_files,
    list_releases,
    remove_release,
    use_release,
)

__all__ = [
    "KINDS",
    "STARTER_SYSTEM",
    "Imported",
    "Release",
    "Report",
    "import_files",
    "keep_version",
    "lexicon_from",
    "lexicon_of",
    "list_releases",
    "load_starter",
    "remove_release",
    "renewed",
    "terminology_version",
    "use_release",
]

"""One installation per test module, on a database of its own."""

from collections.abc import Iterator

import pytest
from installation import Installation

from app.db import Database
from app.terminology.importers import load_starter


@pytest.fixture(scope="module")
def installation(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Nothing runs yet but the database, with tables and the starter terminology."""
    with database.session_scope() as session:
        load_starter(session)
    made = Installation(database, tmp_path_factory.mktemp("installation"))
    yield made
    made.stop()

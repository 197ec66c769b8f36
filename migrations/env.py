"""Runs the revisions for `app.db.migrate`, one process at a time."""

from alembic import context
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.db import sqlalchemy_url
from app.settings import Settings
from models import Base

# Any fixed number that no other advisory lock of ours uses (app/dispatch.py, app/terminology/importers.py).
MIGRATION_LOCK = 4_841_000


def upgrade_online() -> None:
    url = context.config.attributes.get("database_url") or Settings().require_database_url()
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool, hide_parameters=True)
    with engine.connect() as connection:
        # A session lock, taken before Alembic reads which revision is there: two upgrades of an empty database
        # at once would both create the tables, and one would fail. Closing the connection gives it back.
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()


if context.is_offline_mode():
    raise NotImplementedError("revisions are run against a database, not printed as SQL")
upgrade_online()

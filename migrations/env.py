"""Runs the revisions for `app.db.migrate`, one process at a time."""

from alembic import context
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.db import sqlalchemy_url
from app.settings import Settings
from models import Base

# Any fixed number that no other advisory lock of ours uses (app/dispatch.py, app/terminology/importers.py).
MIGRATION_LOCK = 4_841_000
LOCK_SECONDS = 5.0
"""Longest wait for a table."""


def upgrade_online() -> None:
    url = context.config.attributes.get("database_url") or Settings().require_database_url()
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool, hide_parameters=True)
    with engine.connect() as connection:
        # A session lock, taken before Alembic reads which revision is there: two upgrades of an empty database
        # at once would both create the tables, and one would fail. Closing the connection gives it back.
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        # A statement that waits for a table makes everybody wait who comes after it: it gives up, and `app.db.migrate`
        # tries again. Not for the lock above, which nobody else stands behind.
        wait = f"{round(context.config.attributes.get('lock_seconds', LOCK_SECONDS) * 1000)}ms"
        connection.execute(text("SELECT set_config('lock_timeout', :wait, false)"), {"wait": wait})
        connection.commit()
        # A transaction each: what one revision locked is free again before the next.
        context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()


if context.is_offline_mode():
    raise NotImplementedError("revisions are run against a database, not printed as SQL")
upgrade_online()

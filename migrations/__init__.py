"""Alembic revisions, run by `app.db.migrate`; there is no ini file."""

"""A browser in which somebody is signed in: forms are sent with the session's token, as a page of ours sends them."""

import re
from typing import Any
from uuid import uuid4

from starlette.testclient import TestClient

from app import accounts, sign_in
from app.db import Database
from app.main import create_app
from app.settings import Settings
from app.web.access import SESSION_LIFETIMES
from schemas.access import Role


class SignedBrowser:
    """`who`: the id of the principal. Redirects are followed."""

    def __init__(self, database: Database, *roles: Role, name: str = "検査 花子", **settings: Any) -> None:
        app = create_app(Settings(database_url=database.url, _env_file=None, **settings), database)
        with database.session_scope() as session:
            person = accounts.add_user(session, f"p{uuid4().hex[:12]}", name, roles, by="test")
            secret = sign_in.open_session(session, person.id, SESSION_LIFETIMES)
        self.login, self.who = person.login, f"user:{person.id}"
        self.client = TestClient(app, headers={"Accept": "text/html"}, cookies={"hyojun": secret})
        self.csrf = sign_in.csrf_token(secret)

    def get(self, path: str, /, **query: Any) -> Any:
        return self.client.get(path, params=query or None)

    def post(self, path: str, /, **fields: str) -> Any:
        return self.client.post(path, data={"csrf_token": self.csrf, **fields})

    def upload(self, path: str, name: str, content: bytes, /, **fields: str) -> Any:
        return self.client.post(path, data={"csrf_token": self.csrf, **fields}, files={"file": (name, content)})

    def text(self, path: str, /, **query: Any) -> str:
        answer = self.get(path, **query)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return str(answer.text)


def words_of(page: str) -> str:
    """What a reader sees, in one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))

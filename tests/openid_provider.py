"""A small OpenID provider that really signs, on a port of this machine: for one client, with what a test tells it to say."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


class OpenIdProvider:
    """`claims`: of the next ID tokens, beside the usual ones; None leaves one out. `asked`: paths in their order."""

    def __init__(self, client_id: str, secret: str) -> None:
        self.client_id, self.secret = client_id, secret
        self.key, self.kid = rsa.generate_private_key(65537, 2048), "p1"
        self.signs_with: Any = self.key
        self.algorithm = "RS256"
        self.claims: dict[str, Any] = {}
        self.asked: list[str] = []
        self.issuer = ""
        self._codes: dict[str, dict[str, str]] = {}

    def sign_in(self, address: str) -> tuple[str, str]:
        """What a person's browser does at the provider; (state, code) with which it is sent back."""
        query = dict(parse_qsl(urlsplit(address).query))
        assert query["response_type"] == "code" and query["client_id"] == self.client_id
        assert query["code_challenge_method"] == "S256" and "openid" in query["scope"].split()
        code = uuid4().hex
        self._codes[code] = query
        return query["state"], code

    def answer(self, path: str, form: dict[str, list[str]] | None, authorization: str | None) -> tuple[int, Any]:
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
            return 200, {"issuer": self.issuer} | {name: f"{self.issuer}/{end}" for name, end in ends.items()}
        if path == "/keys":
            public = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
            return 200, {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "RS256"}]}
        assert path == "/token" and form is not None
        begun = self._codes.pop(form["code"][0], None)
        shown = base64.b64encode(f"{self.client_id}:{self.secret}".encode()).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"][0].encode()).digest()).rstrip(b"=")
        if begun is None or authorization != f"Basic {shown}" or challenge.decode() != begun["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        if form["redirect_uri"][0] != begun["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": self.client_id, "sub": "s-1", "iat": now, "exp": now + 60,
                  "nonce": begun["nonce"]} | self.claims  # fmt: skip
        said = {name: value for name, value in claims.items() if value is not None}
        token = jwt.encode(said, self.signs_with, self.algorithm, headers={"kid": self.kid})
        return 200, {"access_token": "unused", "token_type": "Bearer", "id_token": token}


@contextmanager
def openid_provider(client_id: str = "hyojun", secret: str = "s3cret-of-hyojun") -> Iterator[OpenIdProvider]:
    made = OpenIdProvider(client_id, secret)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(*made.answer(urlsplit(self.path).path, None, None))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._say(*made.answer(self.path, parse_qs(body), self.headers.get("Authorization")))

        def _say(self, status: int, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""How we prove who we are to a system that we send to: nothing, a bearer token, a password, or SMART Backend Services.

Source: SMART App Launch 2, Backend Services and Client Authentication: Asymmetric (private_key_jwt);
https://hl7.org/fhir/smart-app-launch/backend-services.html. Our certificate (mTLS) belongs to the connection.
"""

import base64
import json
import time
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.errors import InvalidInput, Unavailable
from app.outgoing import Answer, Line, Secrets, check_url
from schemas.push import PushLogin

SCOPE = "system/*.cruds"
"""Asked for where the destination names none; a server grants what it likes."""
ASSERTION_SECONDS = 240
"""At most five minutes by SMART App Launch 2."""
_EARLY_SECONDS = 30.0
"""So long before its end a token is not used any more."""


@dataclass(frozen=True)
class Identity:
    """The columns of `models.PushDestination` that say how we prove who we are."""

    url: str
    login: PushLogin
    login_name: str | None
    secret_file: str | None
    key_id: str | None
    token_url: str | None
    scope: str | None
    http: bool


class Login:
    """For one thread. A SMART token is kept until shortly before its end."""

    def __init__(self, identity: Identity, secrets: Secrets, line: Line) -> None:
        self._identity, self._secrets, self._line = identity, secrets, line
        self._token, self._until = "", 0.0

    def headers(self, deadline: float) -> list[tuple[str, str]]:
        """Raises: Unavailable where the secret is not there, or the server gives no token."""
        login = self._identity.login
        if login is PushLogin.NONE:
            return []
        if login is PushLogin.BASIC:
            pair = f"{self._identity.login_name or ''}:{self._secret()}"
            return [("authorization", "Basic " + base64.b64encode(pair.encode()).decode())]
        token = self._secret() if login is PushLogin.BEARER else self._smart(deadline)
        if not token.isascii() or not token.isprintable() or not token:
            raise Unavailable("the token is none that a header can hold")
        return [("authorization", f"Bearer {token}")]

    def forget(self) -> None:
        """The server did not take the token."""
        self._until = 0.0

    def _secret(self) -> str:
        if self._identity.secret_file is None:
            raise Unavailable("no secret file is named")
        return self._secrets.read(self._identity.secret_file)

    def _smart(self, deadline: float) -> str:
        if time.monotonic() < self._until:
            return self._token
        url = self._identity.token_url or self._discover(deadline)
        form = {
            "grant_type": "client_credentials",
            "scope": self._identity.scope or SCOPE,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self._assertion(url),
        }
        headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")]
        found = _object(self._line.send("POST", url, headers, urlencode(form).encode(), deadline=deadline), "no token")
        token, seconds = found.get("access_token"), found.get("expires_in")
        if not isinstance(token, str) or not token:
            raise Unavailable("the token endpoint's answer holds no token")
        usable = float(seconds) if isinstance(seconds, int | float) else 300.0
        self._token, self._until = token, time.monotonic() + max(0.0, usable - _EARLY_SECONDS)
        return token

    def _discover(self, deadline: float) -> str:
        base = self._identity.url
        answer = self._line.send(
            "GET", f"{base}/.well-known/smart-configuration", [("accept", "application/json")], deadline=deadline
        )
        endpoint = _object(answer, "no smart-configuration").get("token_endpoint")
        if not isinstance(endpoint, str):
            raise Unavailable("its smart-configuration names no token endpoint")
        try:
            checked = check_url(endpoint, http=self._identity.http)
        except InvalidInput:
            raise Unavailable("the token endpoint of its smart-configuration may not be used") from None
        # Whoever may choose the server may not choose another host by it.
        if urlsplit(checked).hostname != urlsplit(base).hostname:
            raise Unavailable("its token endpoint is on another host: name it as token_url")
        return endpoint

    def _assertion(self, audience: str) -> str:
        try:
            key = load_pem_private_key(self._secret().encode(), password=None)
        except (ValueError, TypeError):
            raise Unavailable("the secret file holds no private key (PEM, without a password)") from None
        if isinstance(key, RSAPrivateKey):
            algorithm = "RS384"
        elif isinstance(key, EllipticCurvePrivateKey) and key.curve.name == "secp384r1":
            algorithm = "ES384"
        else:
            raise Unavailable("the private key must be RSA (RS384) or on the curve P-384 (ES384)")
        name = self._identity.login_name or ""
        claims = {
            "iss": name,
            "sub": name,
            "aud": audience,
            "jti": str(uuid4()),
            "exp": int(time.time()) + ASSERTION_SECONDS,
        }
        return jwt.encode(claims, key, algorithm, {"kid": self._identity.key_id} if self._identity.key_id else None)


def _object(answer: Answer, why: str) -> dict[str, object]:
    if not answer.ok:
        raise Unavailable(f"{why}: {answer.fault or f'HTTP {answer.status}'}")
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unavailable(f"{why}: the answer is no JSON object")
    return found

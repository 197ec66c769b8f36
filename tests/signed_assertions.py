"""Keys and assertions of clients of SMART Backend Services, made as a client makes them."""

import json
import time
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class ClientKey:
    """`algorithm`: RS384 or ES384."""

    def __init__(self, algorithm: str = "ES384", kid: str = "k1") -> None:
        self.algorithm, self.kid = algorithm, kid
        made: Any = ec.generate_private_key(ec.SECP384R1()) if algorithm == "ES384" else rsa.generate_private_key(65537, 2048)
        self.private = made

    @property
    def jwk(self) -> dict[str, Any]:
        kind = ECAlgorithm if self.algorithm == "ES384" else RSAAlgorithm
        return {**json.loads(kind.to_jwk(self.private.public_key())), "kid": self.kid, "alg": self.algorithm}

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [self.jwk]}

    def assertion(self, client_id: str, audience: str, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A claim of None is left out."""
        said = {"iss": client_id, "sub": client_id, "aud": audience, "jti": uuid4().hex, "exp": int(time.time()) + 240}
        said = {name: value for name, value in (said | claims).items() if value is not None}
        shown = {"kid": self.kid} | (headers or {})
        return jwt.encode(said, self.private, self.algorithm, headers={k: v for k, v in shown.items() if v is not None})


def token_form(assertion: str, scope: str | None = "system/*.rs", **changes: str) -> dict[str, str]:
    form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    return form | ({"scope": scope} if scope is not None else {}) | changes

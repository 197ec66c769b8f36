"""Passwords: which are taken, how they are kept, how one is compared.

Source: NIST SP 800-63B-4, 3.1.1.2 (length instead of composition, a list of common ones, NFKC before hashing) and RFC 9106,
section 4 (argon2id, the second recommended choice: 64 MiB, three passes, four lanes).
"""

import secrets
import threading
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.profiles import RFC_9106_LOW_MEMORY

from app.errors import InvalidInput

MIN_CHARACTERS = 12
MAX_CHARACTERS = 1000
"""Longer ones would only cost time."""
# Of those seen most often in leaked lists, the ones that are long enough, and what people write where this product is.
_COMMON = frozenset({
    "123456789012", "1234567890123", "12345678901234", "123456789123", "123123123123", "111111111111", "000000000000",
    "012345678901", "112233445566", "987654321098", "qwertyuiop12", "qwertyuiop123", "qwertyuiopas", "qwertyqwerty",
    "qwerty123456", "1q2w3e4r5t6y", "1qaz2wsx3edc", "1qazxsw23edc", "zaq12wsxcde3", "asdfghjkl123", "asdfasdfasdf",
    "password1234", "passwordpassword", "password12345", "password123!", "password2024", "password2025", "password2026",
    "p@ssw0rd1234", "p@ssw0rd12345", "passw0rd1234", "administrator", "administrator1", "adminadminadmin", "admin1234567",
    "adminpassword", "changeme1234", "changemenow!", "letmein12345", "welcome12345", "welcome123456", "iloveyou1234",
    "iloveyouforever", "abcdefghijkl", "abcd12345678", "abc123456789", "abcdefg12345", "hospital1234", "hospitalhospital",
    "hyojunhyojun", "hyojun123456", "hyojun1234567", "byouin123456", "byoinbyoinbyoin", "kanrisha1234", "sakurasakura",
    "パスワードパスワード", "correcthorsebatterystaple", "testtesttest", "test12345678", "testpassword", "samplesample",
})  # fmt: skip

_hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
# Each computation takes 64 MiB and several cores: more at the same time would be a way to fill the memory.
_room = threading.BoundedSemaphore(4)


def check_new(password: str, *names: str) -> None:
    """`names`: what the password must not be. Raises: InvalidInput, which says what to change and not what was given."""
    folded = _folded(password)
    if len(folded) < MIN_CHARACTERS:
        raise InvalidInput(f"password: must have at least {MIN_CHARACTERS} characters")
    if len(folded) > MAX_CHARACTERS:
        raise InvalidInput(f"password: must have at most {MAX_CHARACTERS} characters")
    if folded.casefold() in _COMMON or len(set(folded)) == 1 or folded.casefold() in {n.casefold() for n in names}:
        raise InvalidInput("password: is among those that are tried first; choose another one")


def hashed(password: str) -> str:
    with _room:
        return _hasher.hash(_folded(password))


def matches(password: str, kept: str | None) -> bool:
    """`kept` None: there is none, and finding that out takes as long as comparing."""
    with _room:
        try:
            _hasher.verify(kept or _nobodys(), _folded(password)[: MAX_CHARACTERS + 1])
        except (Argon2Error, InvalidHashError):
            return False
    return kept is not None


def outdated(kept: str) -> bool:
    """Was it hashed with other parameters than are in use now?"""
    return _hasher.check_needs_rehash(kept)


@cache
def _nobodys() -> str:
    return _hasher.hash(secrets.token_urlsafe(32))


def _folded(password: str) -> str:
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace").decode()

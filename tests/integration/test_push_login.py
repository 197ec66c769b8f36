"""How a sender proves who it is, whom it believes, and which addresses it never connects to."""

import base64
import json
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from push_receiver import Got, Receiver, Reply, receiver

from app.errors import InvalidInput, Unavailable
from app.outgoing import Line, Secrets, check_url, tls
from app.push_login import Identity, Login
from schemas.push import PushLogin

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def identity(url: str, login: PushLogin, **more: object) -> Identity:
    stated = {
        "login_name": None,
        "secret_file": "secret",
        "key_id": None,
        "token_url": None,
        "scope": None,
        "http": False,
    }
    return Identity(url=url, login=login, **(stated | more))  # type: ignore[arg-type]


def soon() -> float:
    return time.monotonic() + 30


def pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_token_or_a_password_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    secrets, line = Secrets(tmp_path), Line()
    bearer = Login(identity("http://127.0.0.1", PushLogin.BEARER), secrets, line)
    with pytest.raises(Unavailable, match="secret is not in PUSH_SECRETS_DIR"):
        bearer.headers(soon())
    (tmp_path / "secret").write_text("one\n")
    assert bearer.headers(soon()) == [("authorization", "Bearer one")]
    (tmp_path / "secret").write_text("two\nlines")
    with pytest.raises(Unavailable, match="none that a header can hold"):
        bearer.headers(soon())
    basic = Login(identity("http://127.0.0.1", PushLogin.BASIC, login_name="hyojun"), secrets, line)
    (tmp_path / "secret").write_text("pass word")
    assert basic.headers(soon()) == [("authorization", "Basic " + base64.b64encode(b"hyojun:pass word").decode())]
    with pytest.raises(Unavailable):
        secrets.read("../secret")


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(ec.generate_private_key(ec.SECP384R1()), "ES384"), (rsa.generate_private_key(65537, 2048), "RS384")],
)
def test_smart_backend_services_ask_for_a_token_once_and_again_when_it_ends(
    tmp_path: Path, server: Receiver, key: PrivateKey, algorithm: str
) -> None:
    (tmp_path / "secret").write_bytes(pem(key))
    token_url = f"{server.url}/token"

    def answer(got: Got) -> Reply:
        if got.path == "/fhir/.well-known/smart-configuration":
            return Reply(body=json.dumps({"token_endpoint": token_url}).encode())
        return Reply(body=json.dumps({"access_token": f"t{len(server.got)}", "expires_in": 300}).encode())

    server.usual = answer
    line = Line()
    login = Login(
        identity(f"{server.url}/fhir", PushLogin.SMART, login_name="hyojun", key_id="k1"), Secrets(tmp_path), line
    )
    first = login.headers(soon())
    assert login.headers(soon()) == first and len(server.got) == 2
    form = {name: values[0] for name, values in parse_qs(server.got[1].body.decode()).items()}
    assert (form["grant_type"], form["scope"]) == ("client_credentials", "system/*.cruds")
    claims = jwt.decode(form["client_assertion"], key.public_key(), [algorithm], audience=token_url)
    assert (
        (claims["iss"], claims["sub"]) == ("hyojun", "hyojun") and claims["jti"] and claims["exp"] - time.time() <= 300
    )
    assert jwt.get_unverified_header(form["client_assertion"])["kid"] == "k1"
    login.forget()
    assert login.headers(soon()) != first
    line.close()


def test_a_configuration_cannot_send_the_assertion_to_another_host(tmp_path: Path, server: Receiver) -> None:
    (tmp_path / "secret").write_bytes(pem(ec.generate_private_key(ec.SECP384R1())))
    line = Line()
    login = Login(identity(server.url, PushLogin.SMART, login_name="h"), Secrets(tmp_path), line)
    for endpoint in ("https://elsewhere.example/token", "http://localhost:1/token", "http://hospital.example/token"):
        server.usual = Reply(body=json.dumps({"token_endpoint": endpoint}).encode())
        with pytest.raises(Unavailable, match=r"another host|may not be used"):
            login.headers(soon())
    line.close()


def certificate(
    folder: Path, name: str, issuer: tuple[x509.Certificate, PrivateKey] | None = None
) -> tuple[x509.Certificate, PrivateKey]:
    """Writes `<name>.pem` (certificate and key) and gives both; without an issuer it is an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    )
    made = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(made.public_bytes(Encoding.PEM) + pem(key))
    return made, key


def test_certificates_prove_both_sides(tmp_path: Path) -> None:
    authority = certificate(tmp_path, "authority")
    for name in ("server", "client"):
        certificate(tmp_path, name, authority)
    certificate(tmp_path, "stranger")
    wanted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wanted.load_cert_chain(tmp_path / "server.pem")
    wanted.load_verify_locations(tmp_path / "authority.pem")
    wanted.verify_mode = ssl.CERT_REQUIRED
    secrets = Secrets(tmp_path)
    with receiver(wanted) as server:
        for ca_file, cert_file, status, fault in (
            ("authority.pem", "client.pem", 200, None),
            ("stranger.pem", "client.pem", None, "its certificate is not trusted"),
            ("authority.pem", "stranger.pem", None, "TLS failed"),
        ):
            line = Line(tls(secrets, ca_file, cert_file, None))
            answer = line.send("GET", server.url, deadline=soon())
            # TLS 1.3 tells a client only when it reads that its certificate was not taken.
            assert answer.status == status and (fault is None or answer.fault in (fault, "the connection broke"))
            line.close()
        assert len(server.got) == 1
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        tls(secrets, "empty.pem", None, None)


@pytest.mark.parametrize(
    "url",
    [
        "http://hospital.example/fhir", "ftp://hospital.example", "https://", "https://169.254.169.254/latest",
        "https://[fe80::1]/", "https://[::ffff:169.254.169.254]/", "https://[fd00:ec2::254]/", "https://0.0.0.0/",
        "https://224.0.0.1/", "https://user:word@hospital.example/", "https://hospital.example/?a=b",
        "https://hospital.example/#x", "https://hospital.example:99999/", "https://病院.example/", "https://[::1/",
    ],
)  # fmt: skip
def test_addresses_that_are_never_sent_to(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^url: "):
        check_url(url)


def test_addresses_that_are_taken() -> None:
    assert check_url(" https://Hospital.example:8443/fhir/ ") == "https://hospital.example:8443/fhir"
    assert check_url("https://10.0.0.5/fhir") == "https://10.0.0.5/fhir"
    assert check_url("http://10.0.0.5/fhir", http=True) == "http://10.0.0.5/fhir"
    assert check_url("http://localhost:8080") == "http://localhost:8080"
    hosts = frozenset({"hospital.example", "10.0.0.5:8443"})
    for url in ("https://hospital.example/a", "https://hospital.example:444", "https://10.0.0.5:8443/"):
        check_url(url, hosts=hosts)
    for url in ("https://10.0.0.5/", "https://hospital.example.org/", "http://127.0.0.1/"):
        with pytest.raises(InvalidInput, match="PUSH_ALLOWED_HOSTS"):
            check_url(url, hosts=hosts)


def test_a_name_that_leads_to_a_forbidden_address_is_not_connected_to(server: Receiver) -> None:
    line = Line()
    assert (
        line.send("GET", "http://169.254.169.254/", deadline=soon()).fault
        == "link-local and metadata addresses are not sent to"
    )
    # Another spelling of 127.0.0.1, as any name could be whose answer changes.
    port = server.url.rpartition(":")[2]
    answer = line.send("GET", f"http://127.1:{port}/", deadline=soon())
    assert answer.fault == "its name stands for this host itself" and not answer.begun and server.got == []
    line.close()


def test_an_exchange_has_an_end_and_an_answer_a_limit(server: Receiver) -> None:
    line = Line()
    server.script = [Reply(seconds=4.0), Reply(200, body=b"x" * 3_000_000)]
    begun = time.monotonic()
    answer = line.send("POST", server.url, body=b"{}", deadline=begun + 0.3)
    assert (answer.fault, answer.begun) == ("no answer in time", True) and time.monotonic() - begun < 3.5
    assert len(line.send("GET", server.url, deadline=soon()).body) == 1024 * 1024
    assert line.send("GET", server.url, deadline=time.monotonic() - 1).fault == "no time is left"
    line.close()


@pytest.mark.parametrize(("written", "seconds"), [("120", 120.0), ("", None), ("soon", None), ("-5", None)])
def test_retry_after_in_seconds(server: Receiver, written: str, seconds: float | None) -> None:
    server.usual = Reply(429, {"Retry-After": written})
    line = Line()
    assert line.send("GET", server.url, deadline=soon()).retry_after == seconds
    server.usual = Reply(
        503, {"Retry-After": (datetime.now(UTC) + timedelta(minutes=5)).strftime("%a, %d %b %Y %H:%M:%S GMT")}
    )
    asked = line.send("GET", server.url, deadline=soon()).retry_after
    assert asked is not None and 295 < asked <= 300
    line.close()

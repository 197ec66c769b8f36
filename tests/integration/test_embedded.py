"""The embedded server outlives nobody, loses nothing, and starts after everything."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from app.commands import open_database
from app.embedded import embedded_postgres
from app.errors import InvalidInput
from app.processes import Supervised

HOLD = """
import sys, time
from pathlib import Path
from app.embedded import embedded_postgres
with embedded_postgres(Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(600)
"""


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def hold(data_dir: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that runs the server of `data_dir`, and the address that it printed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(data_dir)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])


@pytest.fixture(scope="module")
def data_dir(open_dir: Path) -> Path:
    return open_dir / "embedded"


def test_a_fresh_server_is_safe_and_speaks_utf8(data_dir: Path) -> None:
    with embedded_postgres(data_dir) as url, psycopg.connect(url) as connection:

        def show(name: str) -> str:
            row = connection.execute(f"SHOW {name}").fetchone()
            assert row is not None
            return str(row[0])

        assert show("data_checksums") == "on"
        assert show("server_encoding") == "UTF8"
        assert show("listen_addresses") == "127.0.0.1"
        assert show("unix_socket_directories") == ""
        assert connection.execute("SELECT datlocale FROM pg_database WHERE datname = 'hyojun'").fetchone() == (
            "C.UTF-8",
        )
        without_password = url.split("//")[1].split("@")[1]
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(f"postgresql://hyojun@{without_password}", connect_timeout=5)
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('標準')")
        connection.commit()
        if os.geteuid() == 0:
            assert os.stat(f"/proc/{postmaster(data_dir)}").st_uid != 0
    password = data_dir / "postgres" / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert password.read_text().strip() not in (data_dir / "postgres" / "server.log").read_text()


def test_the_data_and_the_password_are_kept(data_dir: Path) -> None:
    with embedded_postgres(data_dir) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT word FROM kept").fetchone() == ("標準",)


def test_a_second_user_shares_the_running_server(data_dir: Path) -> None:
    with embedded_postgres(data_dir) as first:
        with embedded_postgres(data_dir) as second:
            assert second == first
        with psycopg.connect(first) as connection:  # the second one's end did not stop it
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_it_stops_when_its_parent_is_killed(data_dir: Path) -> None:
    parent, url = hold(data_dir)
    server = postmaster(data_dir)
    assert alive(server)
    connection = psycopg.connect(url)
    assert connection.execute("SELECT word FROM kept").fetchone() == ("標準",)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert wait_until(lambda: not alive(server)), "an open connection must not keep it"
    connection.close()
    assert "database system is shut down" in (data_dir / "postgres" / "server.log").read_text().splitlines()[-1]


def test_it_starts_at_once_after_its_parent_was_killed(data_dir: Path) -> None:
    parent, _ = hold(data_dir)
    parent.send_signal(signal.SIGKILL)
    parent.wait()  # a process that is still dying holds its lock, and would share a server that goes with it
    with embedded_postgres(data_dir) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT word FROM kept").fetchone() == ("標準",)


def test_an_orphan_is_stopped_first(data_dir: Path) -> None:
    """Parent and supervisor killed together, and the server frozen so that it could not follow them."""
    parent, _ = hold(data_dir)
    server = postmaster(data_dir)
    supervisor = int(Path(f"/proc/{server}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(server, signal.SIGSTOP)
    parent.send_signal(signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    parent.wait()
    assert alive(server)
    os.kill(server, signal.SIGCONT)
    with embedded_postgres(data_dir) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT word FROM kept").fetchone() == ("標準",)
        assert postmaster(data_dir) != server
    assert not alive(server)


def test_a_crashed_server_recovers_and_a_stale_pid_file_harms_no_stranger(data_dir: Path) -> None:
    parent, _ = hold(data_dir)
    server = postmaster(data_dir)
    os.kill(server, signal.SIGKILL)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not alive(server))
    pid_file = data_dir / "postgres" / "data" / "postmaster.pid"
    with Supervised(["sleep", "613"]) as stranger:
        assert wait_until(lambda: _processes("sleep", "613") != [])
        sleeper = _processes("sleep", "613")[0]
        lines = pid_file.read_text().split("\n")
        pid_file.write_text("\n".join([str(sleeper), *lines[1:]]))
        with embedded_postgres(data_dir) as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT word FROM kept").fetchone() == ("標準",)
        assert alive(sleeper) and stranger.poll() is None
    assert not alive(sleeper)


def _processes(*argv: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_text().split("\0")[:-1] == list(argv):
                found.append(int(process.name))
        except OSError:
            continue  # it ended meanwhile
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")
def test_programs_in_a_closed_directory_are_copied_and_its_mode_is_kept(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = open_dir / "closed"
    site = closed / "site"
    site.mkdir(parents=True)
    package = Path(next(p for p in sys.path if (Path(p) / "embedded_postgres").is_dir()))
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(package / name, site / name)
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(str(site))
    with embedded_postgres(open_dir / "copied") as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        running = os.readlink(f"/proc/{postmaster(open_dir / 'copied')}/exe")
    assert running.startswith(str(open_dir / "copied"))
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_child_gets_its_signal_its_grace_and_then_its_end(tmp_path: Path) -> None:
    polite = Supervised(["sh", "-c", "trap 'exit 7' TERM; sleep 600 & wait"])
    time.sleep(0.3)
    assert polite.poll() is None
    assert polite.stop() == 7
    deaf = Supervised(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], grace_seconds=0.3)
    time.sleep(0.3)
    assert deaf.stop() == -signal.SIGKILL
    assert Supervised(["sh", "-c", "exit 3"]).wait(10) == 3


def test_the_servers_log_quotes_no_rows(data_dir: Path) -> None:
    with embedded_postgres(data_dir) as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE one (word text UNIQUE)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO one VALUES ('hanako-kensa'), ('hanako-kensa')")
    written = (data_dir / "postgres" / "server.log").read_text()
    assert "duplicate key" in written and "hanako-kensa" not in written


def test_commands_find_the_database_that_is_up(
    server_url: str, open_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATA_DIR", str(open_dir / "session"))
    with open_database() as database:
        assert database.url == server_url
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(InvalidInput, match="DATABASE_URL"), open_database():
        pass
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"

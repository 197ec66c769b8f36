"""A RabbitMQ node for tests: private ports, node name, cookie and files; it can be crashed and started again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAM = shutil.which("rabbitmq-server") or shutil.which("rabbitmq-server", path="/usr/sbin:/usr/local/sbin")


class RabbitMQ:
    """`url` stays the same over crashes; what it has acknowledged lies in `home`."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.port, distribution, self._mapper_port = (_free_port() for _ in range(3))
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        (home / "enabled_plugins").write_text("[].")
        config = f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 50MB\n"
        (home / "rabbitmq.conf").write_text(config)
        self._environment = os.environ | {
            "HOME": str(home),
            "RABBITMQ_NODENAME": f"hyojun{self.port}@localhost",
            "RABBITMQ_BASE": str(home),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._server: subprocess.Popen[bytes] | None = None
        self._mapper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the node takes connections."""
        if self._mapper is None:
            # Started by the node itself, the port mapper would be a daemon that nobody stops.
            arguments = ["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"]
            self._mapper = subprocess.Popen(arguments, env=self._environment, cwd=self.home)
        with (self.home / "output").open("ab") as output:
            server = subprocess.Popen(
                _command(), env=self._environment, cwd=self.home, stdout=output, stderr=output, start_new_session=True
            )
        self._server = server
        deadline = time.monotonic() + 180
        while not _listens(self.port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.home / "output").read_text()[-3000:])
            time.sleep(0.05)

    def crash(self) -> None:
        """SIGKILL to the node, with no chance to tidy up."""
        if self._server is None:
            return
        try:
            os.killpg(self._server.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._server.wait()
        self._server = None

    def stop(self) -> None:
        """Nothing of it is left running."""
        self.crash()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()
            self._mapper = None


def _command() -> list[str]:
    """Debian's wrapper in sbin gives up root by `su`, which loses the environment; the script it calls does not."""
    script = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return [str(script if script.exists() else PROGRAM)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True

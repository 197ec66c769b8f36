"""A whole service that can reach its database and nothing else: every other way out of its processes is shut."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installation import JOB_SECONDS, Installation, make_note, wait_until
from sqlalchemy import make_url

# In front of the C library, so that also connections of libpq and of the engine pass here. A name that is looked up would be
# sent to a name server. Addresses within this machine's file system are no network.
GATE = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int passes(const char *what, const struct sockaddr *to) {
    char name[64] = "?", line[128];
    int port = 0, ours = 0;
    if (to == NULL || to->sa_family == AF_UNIX || to->sa_family == AF_NETLINK || to->sa_family == AF_UNSPEC) return 1;
    if (to->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)to;
        inet_ntop(AF_INET, &in->sin_addr, name, sizeof name);
        port = ntohs(in->sin_port);
        ours = strcmp(name, "127.0.0.1") == 0 && port == atoi(getenv("GATE_PORT"));
    } else if (to->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)to;
        inet_ntop(AF_INET6, &in->sin6_addr, name, sizeof name);
        port = ntohs(in->sin6_port);
    }
    int length = snprintf(line, sizeof line, "%s %s %s %d\n", ours ? "open" : "SHUT", what, name, port);
    int log = open(getenv("GATE_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (log >= 0) { if (write(log, line, length) < 0) abort(); close(log); }
    return ours;
}

int connect(int fd, const struct sockaddr *to, socklen_t size) {
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    if (passes("connect", to)) return real(fd, to, size);
    errno = EACCES;
    return -1;
}

ssize_t sendto(int fd, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t size) {
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    if (passes("sendto", to)) return real(fd, data, length, flags, to, size);
    errno = EACCES;
    return -1;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    unsigned char address[16];
    if (name == NULL || inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
        return real(name, service, hints, found);
    int log = open(getenv("GATE_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (log >= 0) { dprintf(log, "SHUT lookup %s\n", name); close(log); }
    return EAI_NONAME;
}
"""
PROBE = """
import socket
for attempt in (
    lambda: socket.create_connection(("192.0.2.1", 443), timeout=2),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    lambda: socket.getaddrinfo("elsewhere.invalid", 443),
    lambda: socket.socket(socket.AF_INET6).connect(("::1", 9)),
):
    try:
        attempt()
    except OSError:
        continue
    raise SystemExit("something got out")
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler, on Linux")
    folder = tmp_path_factory.mktemp("gate")
    (folder / "gate.c").write_text(GATE)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", folder / "gate.so", folder / "gate.c", "-ldl"], check=True
    )
    return folder / "gate.so"


def test_a_note_is_converted_without_a_way_out(installation: Installation, gate: Path, tmp_path: Path) -> None:
    log = tmp_path / "connections"
    shut = {"ld_preload": gate, "gate_port": make_url(installation.database.url).port, "gate_log": log}

    environment = os.environ | {name.upper(): str(value) for name, value in shut.items()}
    subprocess.run([sys.executable, "-c", PROBE], env=environment, check=True, timeout=60)
    tried = log.read_text().splitlines()
    assert {line.split()[1] for line in tried} == {"connect", "sendto", "lookup"}, "the gate sees and shuts every way"
    assert all(line.startswith("SHUT ") for line in tried)
    log.unlink()

    installation.start_api(**shut)
    worker = installation.start("worker", **shut)
    job = installation.request_json("POST", "/api/notes", make_note("2型糖尿病。HbA1c 7.1 %。"))

    def ended() -> bool:
        assert worker.poll() is None, installation.log("worker")
        return installation.request_json("GET", f"/api/jobs/{job['id']}")["state"] in ("done", "failed")

    assert wait_until(ended, JOB_SECONDS), installation.log("worker")
    assert installation.request_json("GET", f"/api/jobs/{job['id']}")["state"] == "done", installation.log("worker")
    assert installation.request("GET", f"/api/notes/{job['note_id']}/bundle")[0] == 200
    assert installation.request("GET", "/v1/models")[0] == 200
    assert installation.request("GET", "/metrics")[0] == 200
    installation.stop()
    tried = log.read_text().splitlines()
    assert tried and {line.split()[0] for line in tried} == {"open"}, "something other than the database was asked"

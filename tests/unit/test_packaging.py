"""What a clone is installed and run from: lock, Compose files, documented settings; and what no file of it may hold."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from app import __version__
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11.9", "3.12.7", "3.13.1")
MACHINES = ("x86_64", "aarch64")


def lock_entries() -> list[tuple[Requirement, list[str]]]:
    """(requirement, hashes) of each entry of requirements.lock."""
    logical = (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines()
    entries = []
    for line in filter(None, (line.strip() for line in logical if not line.lstrip().startswith("#"))):
        requirement, *hashes = re.split(r"\s+--hash=", line)
        entries.append((Requirement(requirement), [value.strip() for value in hashes]))
    return entries


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def read_yaml(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / name).read_text())
    assert isinstance(loaded, dict)
    return loaded


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def repository_files() -> list[Path]:
    """Files that are or would be committed; in a copy without git, all but what tools leave behind."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, check=False)
        if listed.returncode == 0:  # git refuses a checkout that belongs to somebody else
            return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]
    left_behind = {".venv", ".git", ".hyojun", "__pycache__", "build", "dist", "work", "results"}
    found = []
    for folder, folders, names in os.walk(ROOT):
        left = [name for name in folders if name in left_behind or name.endswith(("_cache", ".egg-info"))]
        folders[:] = [name for name in folders if name not in left]
        found += [Path(folder, name) for name in names if name != ".env"]
    return found


def repository_texts() -> list[tuple[str, str]]:
    texts = []
    for path in repository_files():
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            # Claim files are Shift_JIS by their specification.
            texts.append((str(path.relative_to(ROOT)), data.decode("cp932" if path.suffix == ".uke" else "utf-8")))
    return texts


def test_lock_pins_and_hashes_everything_and_names_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    entries = lock_entries()
    assert len(entries) > 50
    for requirement, hashes in entries:
        assert [clause.operator for clause in requirement.specifier] == ["=="], requirement
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
def test_lock_fulfils_pyproject_on_every_supported_python(python: str, machine: str) -> None:
    environment = default_environment() | {
        "python_version": ".".join(python.split(".")[:2]), "python_full_version": python, "platform_machine": machine,
        "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "extra": "",
    }  # fmt: skip
    locked = {
        canonicalize_name(requirement.name): Version(next(iter(requirement.specifier)).version)
        for requirement, _ in lock_entries()
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }
    project = pyproject()["project"]
    for line in project["dependencies"] + project["optional-dependencies"]["dev"]:
        wanted = Requirement(line)
        assert locked[canonicalize_name(wanted.name)] in wanted.specifier, line
    assert "torch" not in locked


def test_what_the_product_imports_is_declared() -> None:
    ours = {"app", "schemas", "models", "migrations"}
    distributions = packages_distributions()
    declared = {canonicalize_name(Requirement(line).name) for line in pyproject()["project"]["dependencies"]}
    undeclared = set()
    for path in (path for package in sorted(ours) for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for name in {name.split(".")[0] for name in names} - ours - sys.stdlib_module_names:
                if not declared & {canonicalize_name(made_by) for made_by in distributions.get(name, [])}:
                    undeclared.add(f"{path.relative_to(ROOT)}: {name}")
    assert undeclared == set()


def test_one_version_number() -> None:
    assert pyproject()["project"]["version"] == __version__


def test_every_setting_is_documented_with_its_default() -> None:
    shown = dict(re.findall(r"^(?:# )?([A-Z][A-Z_]*)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else str(field.default)
        assert shown.get(name.upper()) == default, f"{name.upper()}={default} is not in .env.example"


def test_env_example_sets_no_secret_and_names_nothing_unknown() -> None:
    text = (ROOT / ".env.example").read_text()
    active = re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)
    assert active == [("POSTGRES_PASSWORD", ""), ("RABBITMQ_PASSWORD", "")]
    composed = (ROOT / "docker-compose.yml").read_text() + (ROOT / "docker-compose.cuda.yml").read_text()
    known = {name.upper() for name in Settings.model_fields} | set(re.findall(r"\$\{([A-Z_]+)", composed))
    assert set(re.findall(r"^(?:# )?([A-Z][A-Z_]*)=", text, re.MULTILINE)) == known


def test_compose_services_and_their_order() -> None:
    services = read_yaml("docker-compose.yml")["services"]
    assert set(services) == {"postgres", "rabbitmq", "migrate", "api", "worker", "cli"}
    assert services["postgres"]["image"].startswith("postgres:18")
    assert services["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    for flag in ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8"):
        assert flag in services["postgres"]["environment"]["POSTGRES_INITDB_ARGS"]
    for name in ("postgres", "rabbitmq"):
        assert services[name]["healthcheck"]["test"]
        assert "ports" not in services[name], "only the API is reached from outside"
    assert services["migrate"]["restart"] == "no"
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("api", "worker"):
        waits = services[name]["depends_on"]
        assert waits["migrate"]["condition"] == "service_completed_successfully"
        assert waits["rabbitmq"]["condition"] == "service_healthy"
        assert services[name]["environment"]["BROKER_URL"].startswith("amqp://")
    assert services["api"]["ports"] == ["${API_PUBLISH:-127.0.0.1:8484}:8484"]


def test_compose_mounts_weights_read_only_and_drops_rights() -> None:
    services = read_yaml("docker-compose.yml")["services"]
    for name in ("migrate", "api", "worker", "cli"):
        service = services[name]
        assert "data:/data" in service["volumes"] and service["environment"]["DATA_DIR"] == "/data"
        models = [volume for volume in service["volumes"] if ":/models" in volume]
        assert models and all(volume.endswith(":ro") for volume in models)
        assert service["environment"]["MODELS_FILE"] == "/models/models.toml"
        assert service["environment"]["MODEL_PATH"] == "${MODEL_FILE:+/models/$MODEL_FILE}"
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    users = re.findall(r"^USER (\S+)$", dockerfile(), re.MULTILINE)
    assert users and users[-1] not in {"root", "0"}


def test_compose_runs_one_command_beside_what_is_up() -> None:
    service = read_yaml("docker-compose.yml")["services"]["cli"]
    assert service["profiles"] == ["tools"] and service["restart"] == "no" and service["entrypoint"] == ["hyojun"]
    assert "${IMPORT_DIR:-./import}:/import:ro" in service["volumes"]
    assert "${EXPORT_DIR:-./export}:/export" in service["volumes"]
    assert service["networks"] == ["inside"] and "ports" not in service


def test_compose_has_no_password_of_its_own() -> None:
    for name in ("docker-compose.yml", "docker-compose.cuda.yml"):
        text = (ROOT / name).read_text()
        for variable, rest in re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|TOKEN)\w*)([^}]*)\}", text):
            assert rest.startswith(":?"), f"{variable} must come from .env alone"
        for value in re.findall(r"(?i)^\s*\w*(?:PASS|PASSWORD|SECRET|TOKEN):\s*(\S.*)$", text, re.MULTILINE):
            assert value.startswith("${"), value
        for password in re.findall(r"://[^:/\s]+:([^@\s]+(?: [^@\s]+)*)@", text):
            assert password.startswith("${"), password


def test_commands_of_the_images_exist() -> None:
    from app.cli import app as command_line

    known = {command.name or getattr(command.callback, "__name__", "") for command in command_line.registered_commands}
    services = read_yaml("docker-compose.yml")["services"]
    lines = {name: " ".join(service["command"]) for name, service in services.items() if "command" in service}
    assert lines.pop("cli") == "--help"
    groups = {group.name for group in command_line.registered_groups}
    shown = re.findall(r"^# .*run --rm cli ([a-z-]+)", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    assert shown and set(shown) <= known | groups
    lines["image"] = " ".join(json.loads(re.findall(r"^CMD (\[.*\])$", dockerfile(), re.MULTILINE)[-1]))
    assert set(lines) == {"migrate", "api", "worker", "image"}
    for name, line in lines.items():
        used = re.findall(r"\bhyojun ([a-z-]+)", line)
        assert used and set(used) <= known, name


def test_cuda_override_builds_the_engine_for_cuda() -> None:
    services = read_yaml("docker-compose.cuda.yml")["services"]
    assert set(services) <= set(read_yaml("docker-compose.yml")["services"])
    arguments = services["worker"]["build"]["args"]
    assert arguments["ENGINE_FLAGS"] == "-DGGML_CUDA=on"
    declared = set(re.findall(r"^ARG (\w+)", dockerfile(), re.MULTILINE))
    assert set(arguments) <= declared
    devices = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]


def test_continuous_integration_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_modules_stay_short() -> None:
    """Over 500 lines a module hides a second idea; the cases of one test file may take more room."""
    lengths = {name: text.count("\n") for name, text in repository_texts() if name.endswith(".py")}
    limit = {True: 800, False: 500}
    assert {name: length for name, length in lengths.items() if length > limit[name.startswith("tests/")]} == {}


def test_the_repository_names_no_machine_and_no_registry() -> None:
    # Written in pieces, so that this file does not find itself.
    folders = "|".join(("wo" + "rk", "ro" + "ot", r"ho" + r"me/[a-z]\w*", r"Us" + r"ers/\w+"))
    path = re.compile(rf"(?<![\w./}}$~-])/(?:{folders})/")
    names = ("py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.(?:org|com)", "deb" + r"\.debian\.org")
    hosts = re.compile("|".join(names))
    found = [
        f"{name}: {match.group()}"
        for name, text in repository_texts()
        for pattern in (path, hosts)
        if (match := pattern.search(text))
    ]
    assert found == []

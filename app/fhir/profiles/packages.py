"""FHIR npm packages to one compact file: read, choose between doubles, compile, write in one step.

A package is a folder with `package.json`, or a `.tgz` that holds one below `package/`
(https://confluence.hl7.org/display/FHIR/NPM+Package+Specification). Only StructureDefinitions with a snapshot, ValueSets
and CodeSystems are kept. The file holds no code and is never unpickled: a digest, then msgpack.
"""

import hashlib
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from app.errors import InvalidInput
from app.fhir.profiles import archive, invariants, valuesets
from app.fhir.profiles.definitions import HL7, ConstraintTable, compile_definition

_DEPTH = 6
_MAX_FILE_BYTES = 256 * 2**20
"""The largest published file (a code system) has 40 MB; a larger one in an archive is a mistake or an attack."""

_decoder = msgspec.json.Decoder(float_hook=Decimal)


class _Head(msgspec.Struct, rename="camel"):
    """What tells whether a file is needed, read without the rest."""

    resource_type: str = ""
    url: str = ""


_head = msgspec.json.Decoder(_Head)
_KEPT = ("StructureDefinition", "ValueSet", "CodeSystem")


class ImportReport(msgspec.Struct, frozen=True):
    """What an import took. `warnings` name what is missing or doubtful, and the canonicals that it is about."""

    packages: tuple[str, ...]
    """`name#version`, sorted."""
    profiles: int
    value_sets: int
    code_systems: int
    invariants: int
    warnings: tuple[str, ...]
    fingerprint: str
    """First 12 hexadecimal digits of the SHA-256 of the content."""


def import_profiles(sources: Sequence[Path], target: Path) -> ImportReport:
    """Compiles the packages found in `sources` (folders at any reasonable depth, `.tgz` files) into the file `target`.

    Doubles of a canonical: one with a snapshot beats one without, then a package beats those that it depends on, then
    the later version; code systems of packages that do not depend on each other are united. The file is replaced in
    one step. Raises InvalidInput, and leaves `target` as it was, when a source is missing or damaged or holds no
    package; the message names the file and the reason.
    """
    packages = [package for source in sources for package in _packages(source)]
    unique = {(p.name, p.version): p for p in packages}
    if not unique:
        raise InvalidInput("no source of profiles was given")
    ranked = _ranked(list(unique.values()))
    warnings: list[str] = []
    table = ConstraintTable()
    definitions = _definitions(ranked, table, warnings)
    value_sets = {
        url: archive.pack(_compiled(valuesets.compile_value_set, item))
        for url, item in _chosen(ranked, "ValueSet").items()
    }
    code_systems = _code_systems(ranked, warnings)
    if f"{HL7}Element" not in definitions:
        warnings.append("no package defines the types of FHIR R4 (hl7.fhir.r4.core does): nothing can be checked")
    constraints = table.constraints
    trees, unread = invariants.parse_all([c.expression for c in constraints])
    warnings += [
        f"invariant {c.key} cannot be read and is not checked"
        for c in constraints if c.expression in unread and c.key not in invariants.NATIVE
    ]  # fmt: skip
    content = archive.Content(
        packages=tuple(sorted(f"{p.name}#{p.version}" for p in ranked)),
        warnings=tuple(warnings),
        parser=invariants.PARSER,
        definitions=definitions,
        value_sets=value_sets,
        code_systems=code_systems,
        constraints=tuple(constraints),
        trees=trees,
    )
    fingerprint = _write(content, target)
    return ImportReport(
        packages=content.packages,
        profiles=len(definitions),
        value_sets=len(value_sets),
        code_systems=len(code_systems),
        invariants=len(constraints),
        warnings=content.warnings,
        fingerprint=fingerprint,
    )


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Item:
    """One resource of a package and where it was read, for messages."""

    where: str
    body: dict[str, Any]


@dataclass(slots=True)
class _Package:
    where: str
    name: str
    version: str
    dependencies: set[str]
    """Names of packages, and `name#version` of the same."""
    items: dict[str, dict[str, _Item]] = field(default_factory=lambda: {kind: {} for kind in _KEPT})
    """Resource type -> canonical -> resource."""


def _packages(source: Path) -> list[_Package]:
    if not source.exists():
        raise InvalidInput(f"{source}: no such file or folder")
    if source.is_file():
        if not source.name.endswith((".tgz", ".tar.gz")):
            raise InvalidInput(f"{source}: neither a folder nor a .tgz file")
        return [_read(str(source), _archived(source))]
    found = [
        _read(str(path), _archived(path))
        if path.is_file()
        else _read(str(path), ((p.name, p.read_bytes()) for p in sorted(path.glob("*.json"))))
        for path in _search(source, _DEPTH)
    ]
    if not found:
        raise InvalidInput(f"{source}: no FHIR package in it (a folder with package.json, or a .tgz file)")
    return found


def _search(folder: Path, depth: int) -> Iterator[Path]:
    """Package folders and archives below a folder; a package is not searched for further ones."""
    try:
        if (folder / "package.json").is_file():
            yield folder
            return
        for path in sorted(folder.iterdir()):
            if path.is_dir() and depth and not path.name.startswith("."):
                yield from _search(path, depth - 1)
            elif path.is_file() and path.name.endswith(".tgz"):
                yield path
    except OSError as error:
        raise InvalidInput(f"{folder}: cannot be read ({error.strerror})") from None


def _archived(path: Path) -> Iterator[tuple[str, bytes]]:
    """Files directly below `package/`, read in memory: nothing of an archive is written to a disk."""
    try:
        with tarfile.open(path, "r:gz") as archive_file:
            for member in archive_file:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if folder != "package" or not name.endswith(".json") or not member.isfile():
                    continue
                if member.size > _MAX_FILE_BYTES:
                    raise InvalidInput(f"{path}: {name} is larger than {_MAX_FILE_BYTES} bytes")
                stream = archive_file.extractfile(member)
                if stream is not None:
                    yield name, stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InvalidInput(f"{path}: damaged archive ({type(error).__name__})") from None


def _read(where: str, files: Iterator[tuple[str, bytes]]) -> _Package:
    manifest: dict[str, Any] | None = None
    guide: dict[str, Any] = {}
    items: dict[str, dict[str, _Item]] = {kind: {} for kind in _KEPT}
    for name, text in files:
        place = f"{where}: {name}"
        try:
            if name == "package.json":
                manifest = _decoder.decode(text)
                continue
            if name.startswith("."):
                continue  # .index.json
            head = _head.decode(text)
            if head.resource_type == "ImplementationGuide":
                guide = _decoder.decode(text)
            elif head.resource_type in _KEPT and head.url:
                _keep(items[head.resource_type], head.url, _Item(place, _decoder.decode(text)))
        except (msgspec.DecodeError, RecursionError) as error:
            kind = "not FHIR JSON" if isinstance(error, msgspec.ValidationError) else "not JSON"
            raise InvalidInput(f"{place}: {kind}") from None
        except OSError as error:
            raise InvalidInput(f"{place}: cannot be read ({error.strerror})") from None
    if not isinstance(manifest, dict) or not all(isinstance(manifest.get(k), str) for k in ("name", "version")):
        raise InvalidInput(f"{where}: package.json with name and version is missing")
    return _Package(where, manifest["name"], manifest["version"], _dependencies(manifest, guide), items)


def _keep(known: dict[str, _Item], url: str, item: _Item) -> None:
    """Within one package: the first with a snapshot, else the first (files come sorted by name)."""
    if url not in known or ("snapshot" in item.body and "snapshot" not in known[url].body):
        known[url] = item


def _dependencies(manifest: dict[str, Any], guide: dict[str, Any]) -> set[str]:
    """From package.json, and from the ImplementationGuide: JP-CLINS states its dependency on JP Core there alone."""
    stated = manifest.get("dependencies")
    pairs = list(stated.items()) if isinstance(stated, dict) else []
    on = guide.get("dependsOn")
    pairs += [(d.get("packageId"), d.get("version")) for d in on if isinstance(d, dict)] if isinstance(on, list) else []
    return {n for name, version in pairs if isinstance(name, str) for n in (name, f"{name}#{version}")}


# --- choosing --------------------------------------------------------------------------------------------------------


def _ranked(packages: list[_Package]) -> list[_Package]:
    """Strongest first: what depends on others before them; of one name, the version that another asks for, then the
    later one."""
    asked = {name for package in packages for name in package.dependencies}
    latest_first = sorted(packages, key=lambda p: _natural(p.version), reverse=True)
    return sorted(
        latest_first, key=lambda p: (len(_above(p, packages)), p.name, f"{p.name}#{p.version}" not in asked)
    )  # fmt: skip


def _natural(version: str) -> list[tuple[int, str]]:
    """1.10.0 comes after 1.9.0, and 1.1.2-url after 1.1.2-clins."""
    return [(int(number or -1), word) for number, word in re.findall(r"(\d+)|([A-Za-z]+)", version)]


def _above(package: _Package, packages: list[_Package]) -> set[str]:
    """Names of the packages that depend on this one, directly or through others."""
    names = {package.name}
    while True:
        more = {p.name for p in packages if p.dependencies & names} - names
        if not more:
            return names - {package.name}
        names |= more


def _chosen(ranked: list[_Package], kind: str) -> dict[str, _Item]:
    chosen: dict[str, _Item] = {}
    for package in ranked:
        for url, item in package.items[kind].items():
            _keep(chosen, url, item)
    return dict(sorted(chosen.items()))


def _definitions(ranked: list[_Package], table: ConstraintTable, warnings: list[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for url, item in _chosen(ranked, "StructureDefinition").items():
        if item.body.get("kind") == "logical":
            continue
        if "snapshot" not in item.body:
            warnings.append(f"no package has a snapshot of {url}: resources that claim it are not checked against it")
            continue
        try:
            found[url] = archive.pack(compile_definition(item.body, table))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InvalidInput(f"{item.where}: not a StructureDefinition ({type(error).__name__})") from None
    return found


def _code_systems(ranked: list[_Package], warnings: list[str]) -> dict[str, bytes]:
    systems: dict[str, valuesets.CodeSystem] = {}
    owners: dict[str, _Package] = {}
    supplements: list[_Item] = []
    for package in ranked:
        for url, item in package.items["CodeSystem"].items():
            if item.body.get("content") == "supplement":
                supplements.append(item)
                continue
            system = _compiled(valuesets.compile_code_system, item)
            if url not in systems:
                systems[url], owners[url] = system, package
                continue
            owner = owners[url]
            related = owner.name == package.name or package.name in _below(owner, ranked)
            if related or systems[url].codes == system.codes:
                continue
            systems[url] = systems[url].united(system)
            warnings.append(f"CodeSystem {url} differs between {owner.name} and {package.name}: the codes of both are taken")
    for item in supplements:
        base = str(item.body.get("supplements", "")).partition("|")[0]
        if base in systems:
            systems[base] = systems[base].supplemented(_compiled(valuesets.compile_code_system, item))
    return {url: archive.pack(system) for url, system in sorted(systems.items())}


def _below(package: _Package, packages: list[_Package]) -> set[str]:
    """Names of the packages that this one depends on, directly or through others."""
    names = {n for n in package.dependencies if "#" not in n}
    while True:
        more = {n for p in packages if p.name in names for n in p.dependencies if "#" not in n} - names
        if not more:
            return names
        names |= more


def _compiled(compiler: Any, item: _Item) -> Any:
    try:
        return compiler(item.body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"{item.where}: cannot be read ({type(error).__name__})") from None


def _write(content: archive.Content, target: Path) -> str:
    data = archive.encode(content)
    fingerprint = hashlib.sha256(data).hexdigest()[:12]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)  # mkstemp gives 0600; workers may run as another user
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidInput(f"{target}: cannot be written ({error.strerror})") from None
    return fingerprint

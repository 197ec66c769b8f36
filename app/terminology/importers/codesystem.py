"""FHIR CodeSystem resources (JSON) into concepts: JP-CLINS laboratory sets, small tables of JP Core, and any other.

FHIR R4, CodeSystem (https://hl7.org/fhir/R4/codesystem.html): concepts may hold concepts, `count` tells how many there are
in all, `content` whether they are all here.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from app.errors import InvalidInput
from app.terminology.importers import uris
from app.terminology.importers.files import Source, decode
from app.terminology.importers.layouts import Faults, Item
from schemas import systems

KIND = "codesystem"
LABORATORY = frozenset({systems.CORE_LAB, systems.INFECTION_LAB, systems.CORE_LAB_11, systems.INFECTION_LAB_11})
_TESTED = {systems.JLAC10: r"[0-9A-Z]{17}"} | dict.fromkeys(LABORATORY, r"[0-9A-Z]{17}")


@dataclass(frozen=True)
class CodeSystem:
    system: str
    version: str | None
    items: list[Item]


def read_code_system(source: Source, skipped: Counter[str], *, force: bool = False) -> CodeSystem:
    """Concepts of the resource, parents before children; `skipped` counts headings that have no display.

    `force`: a resource that says more concepts than it has is taken all the same.
    Raises: InvalidInput for anything that is no CodeSystem with concepts of its own, or has faulty ones.
    """
    try:
        resource = orjson.loads(decode(source))
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"{KIND}: {source.name}: line {error.lineno}, column {error.colno}: no JSON ({error.msg}); cut off or damaged? "
            "Nothing was stored."
        ) from None
    if not isinstance(resource, dict) or resource.get("resourceType") != "CodeSystem":
        raise InvalidInput(f"{KIND}: {source.name} is no FHIR CodeSystem resource. Nothing was stored.")
    url, concepts = resource.get("url"), resource.get("concept")
    if not isinstance(url, str) or not re.fullmatch(r"\S+", url):
        raise InvalidInput(f"{KIND}: {source.name}: the CodeSystem has no url. Nothing was stored.")
    if resource.get("content") in ("not-present", "supplement") or not isinstance(concepts, list) or not concepts:
        raise InvalidInput(
            f"{KIND}: {source.name}: the CodeSystem holds no concepts of its own (content {resource.get('content')}). "
            "Nothing was stored."
        )
    system = uris.canonical(url)
    faults, items, total = Faults(KIND), [], 0
    for where, concept, parents in _walk(concepts, "concept", (), faults):
        total += 1
        if item := _item(system, where, concept, parents, faults):
            items.append(item)
        else:
            skipped["heading without a display"] += 1
    if faults.count:
        raise faults.refuse()
    count = resource.get("count")
    if isinstance(count, int) and count != total and not force:
        raise InvalidInput(
            f"{KIND}: {source.name}: CodeSystem.count says {count} concepts, there are {total}. Is the file cut off? "
            "Nothing was stored. --force takes it all the same."
        )
    version = resource.get("version") or resource.get("date")
    return CodeSystem(system, str(version)[:40] if version else None, items)


def _walk(
    concepts: Any, path: str, parents: tuple[str, ...], faults: Faults
) -> Iterator[tuple[str, dict[str, Any], tuple[str, ...]]]:
    if len(parents) > 20 or not isinstance(concepts, list):
        faults.add(path, "must be a list of concepts, nested at most 20 deep")
        return
    for number, concept in enumerate(concepts, 1):
        where = f"{path} {number}"
        if not isinstance(concept, dict) or not isinstance(concept.get("code"), str):
            faults.add(where, "has no code")
            continue
        yield where, concept, parents
        if "concept" in concept:
            yield from _walk(concept["concept"], f"{where} > concept", (*parents, concept["code"]), faults)


def _item(
    system: str, where: str, concept: dict[str, Any], parents: tuple[str, ...], faults: Faults
) -> Item | None:
    code, display = concept["code"], concept.get("display")
    # FHIR R4, type code: no space at the ends, and single spaces inside.
    if not re.fullmatch(r"\S+( \S+)*", code):
        faults.add(f"{where}, code", "is empty or has spaces that a code must not have")
        return None
    if display is None:
        return None
    if not isinstance(display, str) or not display.strip():
        faults.add(f"{where}, display", "is empty")
        return None
    leaf = "concept" not in concept
    if leaf and system in _TESTED and not re.fullmatch(_TESTED[system], code):
        faults.add(f"{where}, code", "must be 17 digits or capital letters")
        return None
    facts = {"parent": parents[-1] if parents else ""}
    for entry in concept.get("property") or ():
        value = next((v for key, v in entry.items() if key.startswith("value") and not isinstance(v, dict)), None)
        if value is not None and isinstance(entry.get("code"), str):
            facts[entry["code"]] = str(value)
    others = [d["value"] for d in concept.get("designation") or () if isinstance(d.get("value"), str)]
    # JP-CLINS: the display is the FHIR識別名 and the designation in Japanese the name of the item.
    if others and system in LABORATORY:
        facts["name_ja"] = others[0]
    if facts.get("inactive") == "True" or facts.get("status") == "retired":
        facts["retired"] = "true"
    coded = leaf or system == systems.ICD10
    return Item(
        where, system, code, display, uris.KINDS.get(system) if coded else None,
        tuple(dict.fromkeys((display, *others))), ((system, code, display),),
        {key: value for key, value in facts.items() if value},
    )  # fmt: skip

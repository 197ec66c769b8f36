"""What a CDA R2 document says: its text, and of whom, by whom and when it was written.

A file that declares a document type is refused, so that no entity is ever expanded, and so is one nested too deep to walk.

Source: HL7 CDA Release 2 (POCD_HD000040), header as in JAHIS 診療文書構造化記述規約 共通編; NHO SSMIX2_support_documents
`medical_document.md`.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import date
from typing import Any
from xml.etree import ElementTree

from app.errors import InvalidInput
from app.intake import decode_text
from schemas.note import Sex

MAX_DEPTH = 200
"""Deepest nesting of XML elements; CDA documents of Japanese vendors stay below 40."""
_CDA = "{urn:hl7-org:v3}"
SEXES = {"M": Sex.MALE, "F": Sex.FEMALE, "O": Sex.OTHER, "A": Sex.OTHER, "UN": Sex.OTHER}
KANA = re.compile("[\u3041-\u309f\u30a0-\u30ff\uff66-\uff9f 　]+")


@dataclass(frozen=True)
class Person:
    """A patient as a PID segment or a document's header states it; names "" and values None where it does not."""

    id: str
    family: str = ""
    given: str = ""
    family_kana: str = ""
    given_kana: str = ""
    sex: Sex = Sex.UNKNOWN
    birth_date: date | None = None
    address: str | None = None


@dataclass(frozen=True)
class Stated:
    """What a main document says of itself."""

    text: str
    day: date | None = None
    person: Person | None = None
    department: str = ""
    author: tuple[str, str, str] = ("", "", "")
    start: date | None = None
    end: date | None = None


def parse_cda(content: bytes) -> Stated:
    """Raises: InvalidInput for what is no CDA document, for a DTD, and for a document without text."""
    return _cda(_xml(content))


class _Builder(ElementTree.TreeBuilder):
    """Refuses document types, so that no entity can be declared, and trees too deep to walk."""

    depth = 0

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InvalidInput("XML with a document type (DTD) is refused")

    def start(self, tag: Any, attrs: Any, /) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InvalidInput(f"XML nested deeper than {MAX_DEPTH} elements")
        return super().start(tag, attrs)

    def end(self, tag: Any, /) -> Any:
        self.depth -= 1
        return super().end(tag)


def _xml(content: bytes) -> ElementTree.Element:
    try:
        parser = ElementTree.XMLParser(target=_Builder())  # noqa: S314 a DTD, and so every entity, is refused above
        parser.feed(content)
        root = parser.close()
    except ElementTree.ParseError as error:
        raise InvalidInput(f"is not XML: line {error.position[0]}, column {error.position[1]}") from None
    except (LookupError, ValueError):
        raise InvalidInput("is not XML: its encoding is unknown") from None
    assert isinstance(root, ElementTree.Element)
    if root.tag != f"{_CDA}ClinicalDocument":
        raise InvalidInput("is not a CDA document (ClinicalDocument)")
    return root


def _cda(root: ElementTree.Element) -> Stated:
    times = _find(root, "documentationOf/serviceEvent")
    stay = times is not None and times.get("classCode") == "ACCM"
    low, high = (_value(root, f"documentationOf/serviceEvent/effectiveTime/{end}") for end in ("low", "high"))
    author = _find(root, "author/assignedAuthor")
    identity = _find(author, "id")
    return Stated(
        text=_body(root),
        day=day_of(_value(root, "effectiveTime")) or day_of(low),
        person=_header_person(root),
        department=_department(root),
        author=(
            (identity.get("extension") or "") if identity is not None else "",
            *_name(author, "assignedPerson/name"),
        ),
        start=day_of(low) if stay else None,
        end=day_of(high) if stay else None,
    )


def _header_person(root: ElementTree.Element) -> Person | None:
    role = _find(root, "recordTarget/patientRole")
    if role is None:
        return None
    names = [("", "")]
    kana = ("", "")
    for node in role.findall(f"{_CDA}patient/{_CDA}name"):
        # Japanese CDA documents: IDE ideographic, SYL syllabic, ABC alphabetic.
        parts = _parts(node)
        if node.get("use") == "SYL" or node.get("use") is None and KANA.fullmatch("".join(parts)):
            kana = parts
        else:
            names.append(parts)
    shown = names[1] if len(names) > 1 else kana
    identity, gender = _find(role, "id"), _find(role, "patient/administrativeGenderCode")
    address = _find(role, "addr")
    return Person(
        id=(identity.get("extension") or "") if identity is not None else "",
        family=shown[0], given=shown[1], family_kana=kana[0], given_kana=kana[1],
        sex=SEXES.get((gender.get("code") or "") if gender is not None else "", Sex.UNKNOWN),
        birth_date=day_of(_value(role, "patient/birthTime")),
        address="".join(part.strip() for part in address.itertext()) or None if address is not None else None,
    )  # fmt: skip


def _department(root: ElementTree.Element) -> str:
    """The author's organization, without the name of the institution before it."""
    named = _find(root, "author/assignedAuthor/representedOrganization/name")
    keeper = _find(root, "custodian/assignedCustodian/representedCustodianOrganization/name")
    name = "".join(named.itertext()).strip() if named is not None else ""
    institution = "".join(keeper.itertext()).strip() if keeper is not None else ""
    return name.removeprefix(institution).strip() if institution else name


def _body(root: ElementTree.Element) -> str:
    plain = _find(root, "component/nonXMLBody/text")
    if plain is not None:
        if (plain.get("mediaType") or "text/plain") != "text/plain":
            raise InvalidInput("the body of the document is no text (mediaType)")
        raw = "".join(plain.itertext())
        if plain.get("representation") == "B64":
            try:
                raw = decode_text(base64.b64decode(re.sub(r"\s", "", raw), validate=True))
            except binascii.Error:
                raise InvalidInput("the body of the document is not base64") from None
        return raw.replace("\r\n", "\n")
    titles = {"".join(node.itertext()).strip() for node in root.findall(f"{_CDA}title")}
    titles |= {node.get("displayName") or "" for node in root.findall(f"{_CDA}code")}
    blocks = []
    for section in root.iter(f"{_CDA}section"):
        title = _find(section, "title")
        heading = "".join(title.itertext()).strip() if title is not None else ""
        # A document of one section repeats its own title there, which is no part of what was written.
        if heading and heading not in titles:
            blocks.append(heading)
        narrative = _find(section, "text")
        if narrative is not None:
            blocks.append(_narrative(narrative))
    text = "\n".join(blocks)
    if not text.strip():
        raise InvalidInput("the document holds no text")
    return text


_BLOCKS = {f"{_CDA}{tag}" for tag in ("paragraph", "list", "item", "table", "tr", "caption")}
_CELLS = {f"{_CDA}td", f"{_CDA}th"}


def _narrative(node: ElementTree.Element) -> str:
    """The text of a narrative block: `br` and blocks end a line, cells of a row stand apart by a tab."""
    lines = _Lines()
    lines.walk(node)
    return "\n".join(lines.done)


class _Lines:
    """`ended`: the next text begins a line of its own."""

    def __init__(self) -> None:
        self.done = [""]
        self.ended = False

    def write(self, text: str) -> None:
        if text:
            self._begin()
            self.done[-1] += text

    def walk(self, node: ElementTree.Element) -> None:
        self.write(_characters(node.text))
        cells = 0
        for child in node:
            if child.tag == f"{_CDA}br":
                self._begin()
                self.done.append("")
            elif child.tag in _BLOCKS:
                self._block(child)
            else:
                if child.tag in _CELLS:
                    if cells:
                        self.ended = False
                        self.write("\t")
                    cells += 1
                self.walk(child)
            self.write(_characters(child.tail))

    def _block(self, node: ElementTree.Element) -> None:
        self.ended = self.ended or self.done[-1] != ""
        if node.tag == f"{_CDA}paragraph":  # an empty one is an empty line
            self._begin()
        self.walk(node)
        self.ended = True

    def _begin(self) -> None:
        if self.ended:
            self.done.append("")
        self.ended = False


def _characters(text: str | None) -> str:
    """Blanks with a line break among them and nothing else are the file's indentation, no text."""
    if text is None or not text.strip() and "\n" in text:
        return ""
    return re.sub(r"^[ \t]*\n[ \t]*|[ \t]*\n[ \t]*$", "", text)


def _find(node: ElementTree.Element | None, path: str) -> ElementTree.Element | None:
    return None if node is None else node.find("/".join(_CDA + step for step in path.split("/")))


def _value(node: ElementTree.Element, path: str) -> str:
    found = _find(node, path)
    return (found.get("value") or "") if found is not None else ""


def _name(node: ElementTree.Element | None, path: str) -> tuple[str, str]:
    found = _find(node, path)
    return _parts(found) if found is not None else ("", "")


def _parts(name: ElementTree.Element) -> tuple[str, str]:
    family, given = (_find(name, tag) for tag in ("family", "given"))
    if family is None and given is None:
        first, _, rest = " ".join("".join(name.itertext()).split()).partition(" ")
        return first, rest
    return tuple("".join(part.itertext()).strip() if part is not None else "" for part in (family, given))  # type: ignore[return-value]


def day_of(text: str) -> date | None:
    """The day of an HL7 time; None where it is not stated to the day, or is none of the calendar."""
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if re.match("[0-9]{8}", text) else None
    except ValueError:
        return None

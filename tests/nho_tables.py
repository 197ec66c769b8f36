"""The tables of `nho_rules`: kinds of data, fields, lengths and codes of the SS-MIX2 standardized storage.

Source: SS-MIX2 標準化ストレージ仕様書 1.2c-1.2h as nhoHQ SSMIX2DataTestingTool and SSMIX2_support_documents have them, HL7
2.5, JAHIS 病名, 処方 and 注射.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

ORDERLESS = "9" * 15
NULL = '""'


@dataclass(frozen=True)
class Kind:
    """Of one データ種別: event of MSH-9 and its cancel event, segments as a regular expression over names each followed
    by a blank, and where the 診療日 stands ("" for kinds without one)."""

    event: str
    cancel: str
    segments: str
    day: str = ""


_ADT = "MSH EVN PID PV1 "
_ORDERED = "MSH PID (PV1 )?(AL1 )*"
_IMAGE = "MSH PID PV1 (ORC TQ1 OBR (OBX )*)+"
_DONE = r"MSH PID PV1 (ORC TQ1 OBR (OBX )*(ZE1 (OBX )*(ZE2 )*)*)+(IPC )+"
KINDS: Mapping[str, Kind] = {
    "ADT-00": Kind(
        "ADT^A08^ADT_A01", "ADT^A23^ADT_A21", "MSH EVN PID (NK1 )*PV1 (DB1 )*(OBX )*(AL1 )*(IN1 )*"
    ),
    "ADT-01": Kind("ADT^A54^ADT_A54", "ADT^A55^ADT_A52", _ADT),
    "ADT-12": Kind("ADT^A04^ADT_A01", "ADT^A11^ADT_A09", _ADT, "PV1-44"),
    "ADT-21": Kind("ADT^A14^ADT_A05", "ADT^A27^ADT_A21", _ADT + "PV2 ", "PV2-8"),
    "ADT-22": Kind("ADT^A01^ADT_A01", "ADT^A11^ADT_A09", _ADT, "PV1-44"),
    "ADT-31": Kind("ADT^A21^ADT_A21", "ADT^A52^ADT_A52", _ADT + "(PV2 )?", "EVN-6"),
    "ADT-32": Kind("ADT^A22^ADT_A21", "ADT^A53^ADT_A52", _ADT + "(PV2 )?", "EVN-6"),
    "ADT-41": Kind("ADT^A15^ADT_A15", "ADT^A26^ADT_A21", _ADT + "(PV2 )?", "PV2-8"),
    "ADT-42": Kind("ADT^A02^ADT_A02", "ADT^A12^ADT_A09", _ADT + "(PV2 )?", "EVN-6"),
    "ADT-51": Kind("ADT^A16^ADT_A16", "ADT^A25^ADT_A21", _ADT + "(PV2 )?", "PV2-9"),
    "ADT-52": Kind("ADT^A03^ADT_A03", "ADT^A13^ADT_A01", _ADT + "(PV2 )?", "PV1-45"),
    "ADT-61": Kind("ADT^A60^ADT_A60", "ADT^A60^ADT_A60", "MSH EVN PID (PV1 )?(IAM )*"),
    "PPR-01": Kind(
        "PPR^ZD1^PPR_ZD1", "PPR^ZD1^PPR_ZD1", "MSH PID (PRB (ZPR )?(ZPD )*(ZI1 )*(ORC )*)+"
    ),
    "OMD": Kind("OMD^O03^OMD_O03", "OMD^O03^OMD_O03", "MSH PID PV1 (AL1 )*(ORC (TQ1 )*(ODS )*)+", "ORC-9"),
    "OMP-01": Kind("RDE^O11^RDE_O11", "RDE^O11^RDE_O11", _ORDERED + "(ORC RXE (TQ1 )+(RXR )+)+", "ORC-9"),
    "OMP-11": Kind(
        "RAS^O17^RAS_O17", "RAS^O17^RAS_O17", _ORDERED + "(ORC (RXE (TQ1 )+(RXR )*)?(RXA )+RXR )+", "RXA-3"
    ),
    "OMP-02": Kind(
        "RDE^O11^RDE_O11", "RDE^O11^RDE_O11", _ORDERED + "(ORC RXE (TQ1 )+(RXR )+(RXC )*(OBX )*(CTI )*)+", "ORC-9"
    ),
    "OMP-12": Kind(
        "RAS^O17^RAS_O17", "RAS^O17^RAS_O17",
        _ORDERED + "(ORC (RXE (TQ1 )+(RXR )*(RXC )*)?(RXA )+RXR (OBX )*(CTI )*)+", "RXA-3",
    ),
    "OML-01": Kind("OML^O33^OML_O33", "OML^O33^OML_O33", _ORDERED + "(SPM (ORC (TQ1 )*(OBR (OBX )*)+)+)+", "ORC-9"),
    "OML-11": Kind("OUL^R22^OUL_R22", "OUL^R22^OUL_R22", "MSH PID (PV1 )?(SPM (OBR (ORC )?(OBX )*)+)+", "SPM-17"),
    "OMG-01": Kind("OMG^O19^OMG_O19", "OMG^O19^OMG_O19", _IMAGE, "ORC-9"),
    "OMG-02": Kind("OMG^O19^OMG_O19", "OMG^O19^OMG_O19", _IMAGE, "ORC-9"),
    "OMG-03": Kind("OMG^O19^OMG_O19", "OMG^O19^OMG_O19", _IMAGE, "ORC-9"),
    "OMG-11": Kind("OMI^Z23^OMI_Z23", "OMI^Z23^OMI_Z23", _DONE, "OBR-7"),
    "OMG-12": Kind("OMI^Z23^OMI_Z23", "OMI^Z23^OMI_Z23", _DONE, "OBR-7"),
    "OMG-13": Kind(
        "ORU^R01^ORU_R01", "ORU^R01^ORU_R01", "MSH PID PV1 ((ORC )?OBR (TQ1 )*(OBX )+)+", "OBR-7"
    ),
}  # fmt: skip

UNDATED = {"ADT-00", "ADT-01", "ADT-61", "PPR-01"}
"""Kinds with `-` for a day; their order number is all nines, as of every ADT."""

# Required in every kind, and in some kinds only.
REQUIRED = {
    "MSH": (1, 2, 7, 9, 10, 11, 12, 18), "EVN": (2,), "PID": (3, 5, 7, 8), "PV1": (2,), "NK1": (1,), "DB1": (1, 2, 4),
    "AL1": (1, 3), "IN1": (1, 2), "ZI1": (1, 2), "OBX": (3, 11), "IAM": (1, 3, 6), "PRB": (1, 2, 3, 4), "ZPR": (2,),
    "ORC": (1, 2), "RXE": (2, 3, 5), "RXR": (1,), "RXC": (1, 2, 3, 4), "RXA": (1, 2, 3, 4, 5, 6), "CTI": (1,),
    "ODS": (1, 3), "SPM": (4,), "OBR": (2, 4),
}  # fmt: skip
REQUIRED_IN = {
    ("ADT-00", "PID"): (33,),
    ("OMP-01", "ORC"): (4,), ("OMP-11", "ORC"): (4,), ("OMP-02", "ORC"): (4, 17, 29), ("OMP-12", "ORC"): (4, 17, 29),
    ("OMP-01", "RXE"): (10, 11), ("OMP-11", "RXE"): (10, 11), ("OMP-02", "OBX"): (2,), ("OMP-12", "OBX"): (2,),
    ("OMG-01", "ORC"): (9, 12), ("OMG-02", "ORC"): (9, 12), ("OMG-03", "ORC"): (9, 12, 17), ("OMG-13", "ORC"): (17,),
    ("OMG-01", "OBX"): (2, 5), ("OMG-02", "OBX"): (2, 5), ("OMG-11", "OBX"): (2, 5), ("OMG-12", "OBX"): (2, 5),
    ("OMG-03", "OBX"): (2,), ("OMG-13", "OBX"): (2,),
    ("OMG-01", "TQ1"): (1, 9), ("OMG-02", "TQ1"): (1, 9), ("OMG-03", "TQ1"): (1, 9), ("OML-01", "TQ1"): (1,),
    ("OMG-03", "OBR"): (1,), ("OMG-13", "OBR"): (1,),
}  # fmt: skip
# Not supported: must stay empty.
EMPTY = {"MSH": (8, 13, 14, 15, 16, 17, 19)}
EMPTY_IN = {("OMP-01", "PV1"): (1, 6, 17, 36), ("OMP-02", "PV1"): (1, 6, 10, 17, 36)}
# Events that may hold a field; in others it stays empty.
EVENTS_OF = {
    "EVN-3": {"A14", "A27", "A16", "A25", "A21", "A22", "A52", "A53"},
    "EVN-6": {"A15", "A26", "A02", "A12", "A21", "A22", "A52", "A53", "A54", "A55"},
    "PV1-10": {"A01", "A02", "A14", "A15"},
}
LENGTHS = {
    "MSH-10": 20, "ORC-2": 22, "IAM-5": 15, "IAM-8": 60, "IAM-12": 60, "PRB-4": 60, "PRB-17": 80, "ZPR-7": 199,
    "OBX-4": 20, "OBX-7": 60, "OBX-8": 5, "TQ1-11": 250, "PV1-10": 3,
}  # fmt: skip
# Fields that HL7 2.5 defines; ZPR: JAHIS 病名.
LAST_FIELD = {
    "MSH": 21, "EVN": 7, "PID": 39, "PV1": 52, "PV2": 49, "NK1": 37, "DB1": 8, "OBX": 19, "AL1": 6, "IN1": 53, "ZI1": 53,
    "IAM": 20, "PRB": 25, "ZPR": 7, "ORC": 30, "RXE": 44, "TQ1": 14, "RXR": 6, "RXC": 9, "RXA": 26, "SPM": 29, "OBR": 49,
    "ODS": 4, "CTI": 3,
}  # fmt: skip
TIMES = {
    "MSH-7", "EVN-2", "EVN-6", "PID-7", "PID-33", "PV1-44", "PV1-45", "PV2-8", "PV2-9", "ORC-9", "OBR-7", "OBR-22",
    "SPM-17", "OBX-14", "PRB-2", "PRB-7", "PRB-9", "PRB-15", "PRB-16", "IAM-11", "IAM-13", "IAM-20", "TQ1-7", "TQ1-8",
    "RXA-3",
}  # fmt: skip
PEOPLE = {"PV1-7", "ORC-10", "ORC-12", "OBR-16"}
NUMBERS = {"RXE-3", "RXE-4", "RXE-10", "RXC-3", "RXA-6", "TQ1-14"}
# CWE fields, and the systems that may be the standard half ("" for any known one); a local one (99…) may always stand.
CODED = {
    "AL1-2": "HL70127", "AL1-3": "HOT9 HOT7 HOT11 HOT13 JC10 J-FAGY", "OBX-3": "JC10 JSHR001", "IAM-2": "HL70127",
    "IAM-3": "HOT9 HOT7 HOT11 HOT13 JC10 J-FAGY", "IAM-4": "HL70128", "IAM-6": "HL70323", "IAM-9": "HL70436",
    "IAM-17": "HL70438", "NK1-3": "HL70063", "PRB-3": "MDCDX2", "PRB-13": "JHSD0005", "PRB-14": "HL70241 JHSD0006",
    "PRB-18": "JHSD0007", "ZPR-2": "MDCDX2", "ZPR-1": "MDCDX2", "ZPR-3": "MDCDX2", "ORC-17": "HL70069",
    "ORC-29": "HL70482", "RXE-5": "MR9P ISO+", "RXE-6": "MR9P", "RXE-11": "MR9P ISO+", "RXE-21": "MR9P",
    "RXE-27": "JHSP0003", "RXR-1": "HL70162", "RXR-2": "JAMISDP01 HL70163", "RXC-2": "HOT9 HOT7 HOT11 HOT13",
    "RXC-4": "MR9P ISO+", "RXA-5": "HOT9 HOT7 HOT11 HOT13 JHSI0002", "OBX-6": "ISO+", "OBR-4": "JC10", "SPM-4": "JC10",
}  # fmt: skip
CODED_IN = {
    ("OMP-01", "RXE-2"): "HOT9 HOT7 HOT11 HOT13", ("OMP-02", "RXE-2"): "JHSI0002",
    ("OMP-01", "RXE-31"): "YJ MYAK",
}  # fmt: skip
# Closed lists: HL7 2.5, JAHIS.
VALUES = {
    "HL70127": "DA FA EA AA PA LA MA MC", "HL70128": "MI MO SV U", "HL70323": "A D U", "HL70436": "AD AL CT IN",
    "JHSD0005": "1", "HL70241": "D R N W S F U", "JHSD0006": "I M C O", "JHSP0003": "21 22 23",
    "HL70482": "I O", "JHSD0004": "H L O B A F",
}  # fmt: skip
SHAPES = {
    "HOT9": r"\d{9}", "HOT7": r"\d{7}", "HOT11": r"\d{11}", "HOT13": r"\d{13}", "YJ": r"[0-9A-Z]{12}",
    "I10": r"[A-Z]\d{2}[0-9A-Z]{0,3}", "JC10": r"[0-9][A-Z][0-9A-Z]{13}(\d{2})?", "MDCDX2": r"\d{8}",
    "MR9P": r"[0-9A-Z]+", "ISO+": r"[\x21-\x7e]+", "HL70069": r"[0-9A-Za-z]{2,3}", "JAMISDP01": r"[0-9A-Z]{2,16}",
}  # fmt: skip
FIELD_SHAPES = {("OBX-3", "JC10"): r"[0-9][A-Z][0-9A-Z]{15}", ("SPM-4", "JC10"): r"[0-9]{3}",
                ("OBR-4", "JC10"): r"[0-9]|[0-9][A-Z][0-9A-Z]{3,15}", ("TQ1-3", "JAMISDP01"): r"[0-9A-Z]{16}"}  # fmt: skip
KNOWN_SYSTEM = re.compile(
    r"JC10|HOT(7|9|11|13)|YJ|MYAK|MDCDX2|I10|JHS[DPI]\d{4}|MR9P|JAMISDP01|ISO\+|JSHR\d{3}|JANIS|HL7\d{4}|J-FAGY"
)
LOCAL_SYSTEM = re.compile("99[A-Za-z0-9]*")
# Segments that are numbered from 1, and what starts the count anew.
NUMBERED = {"NK1": (), "AL1": (), "IAM": (), "SPM": (), "OBR": ("SPM",), "OBX": ("OBR", "RXE"), "TQ1": ("ORC", "OBR")}

"""Units in FHIR: UCUM for laboratory results, and what MERIT-9 units of a drug measure."""

from schemas.units import fold_unit

# UCUM (https://ucum.org) for units of laboratory reports as `Quantity.unit` writes them; keys folded.
_UCUM = {
    fold_unit(written): code
    for code, units in {
        "g/dL": "g/dL", "g/L": "g/L", "mg/dL": "mg/dL", "mg/L": "mg/L", "ug/dL": "ug/dL", "ug/L": "ug/L",
        "ug/mL": "ug/mL", "ng/mL": "ng/mL", "ng/dL": "ng/dL", "ng/L": "ng/L", "pg/mL": "pg/mL", "mg/mL": "mg/mL",
        "mg/kg": "mg/kg", "ug/g": "ug/g", "pg": "pg", "fL": "fL", "U": "U", "U/L": "U/L", "U/mL": "U/mL",
        "mU/mL": "mU/mL", "mU/dL": "mU/dL", "uU/mL": "uU/mL", "[IU]/L": "IU/L", "[IU]/mL": "IU/mL",
        "m[IU]/L": "mIU/L", "m[IU]/mL": "mIU/mL", "u[IU]/mL": "uIU/mL", "mmol/L": "mmol/L", "umol/L": "umol/L uM",
        "nmol/L": "nmol/L", "pmol/L": "pmol/L", "fmol/L": "fmol/L", "mmol/mol": "mmol/mol", "meq/L": "mEq/L",
        "%": "% パーセント", "[ppth]": "‰", "/uL": "/uL 個/uL", "/mm3": "/mm3", "10*2/uL": "10^2/uL 百/uL",
        "10*3/uL": "10^3/uL 千/uL", "10*4/uL": "10^4/uL 万/uL", "10*6/uL": "10^6/uL", "10*4/mm3": "万/mm3",
        "10*9/L": "10^9/L", "10*12/L": "10^12/L", "s": "秒 sec s", "min": "分 min", "h": "時間 h",
        "g/g{creat}": "g/gCr g/gCre g/g・Cr", "mg/g{creat}": "mg/gCr mg/gCre mg/g・Cr",
        "ug/g{creat}": "ug/gCr ug/gCre ug/g・Cr", "ug/mg{creat}": "ug/mgCr", "U/g{creat}": "U/gCr",
        "mL/min": "mL/min mL/分", "mL/min/{1.73_m2}": "mL/min/1.73m2 mL/分/1.73m2", "mm/h": "mm/h mm/1h mm/時 mm/hr",
        "ng/mL/h": "ng/mL/h ng/mL/hr", "mg/d": "mg/day mg/日", "ug/d": "ug/day ug/日", "g/d": "g/day g/日",
        "mm[Hg]": "mmHg Torr", "mosm/kg": "mOsm/kg", "mosm/L": "mOsm/L", "/[HPF]": "/HPF 個/HPF", "/[LPF]": "/LPF",
        "{titer}": "倍", "{index}": "index", "{COI}": "COI C.O.I.", "{INR}": "INR", "{copies}/mL": "copies/mL",
    }.items()
    for written in units.split()
}  # fmt: skip


def ucum_code(unit: str) -> str | None:
    return _UCUM.get(fold_unit(unit))


PRODUCT_UNITS = frozenset(
    "TAB CAP PCK HON SHT KO BTL BAG PIPE TUBE KIT SHET SET PARI BLST DROP AMP VIL SYRG PILL TROC BOX CAN ML L".split()
)
"""MERIT-9 units that can only measure the product (製剤量): pieces of it, or the volume of a liquid. A mass or an
activity may be that of the product or of its ingredient (原薬量)."""

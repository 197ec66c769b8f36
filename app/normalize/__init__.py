"""As-written text of a chart note -> values: dates, quantities, results, dosages, display names.

Every function is pure, raises nothing on any text, and returns None for text that it does not understand;
what was written stays with the statement, so nothing is lost by not guessing.
"""

from app.normalize.characters import expand_name
from app.normalize.dates import parse_date
from app.normalize.dosage import parse_dosage
from app.normalize.quantities import fold_unit, parse_blood_group, parse_graded, parse_qualitative, parse_quantity
from app.normalize.ranges import parse_reference_range
from app.normalize.usage import usage_key, usage_route

__all__ = [
    "expand_name",
    "fold_unit",
    "parse_blood_group",
    "parse_date",
    "parse_dosage",
    "parse_graded",
    "parse_qualitative",
    "parse_quantity",
    "parse_reference_range",
    "usage_key",
    "usage_route",
]

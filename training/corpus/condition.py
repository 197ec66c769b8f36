"""Disease sections of synthetic notes: the writers and their weights.

Layouts are in `condition_lists` and `condition_notes`, sentences in `condition_prose`, words in `condition_words`.
"""

from training.corpus import condition_lists as lists
from training.corpus import condition_notes as notes
from training.corpus.condition_prose import inline
from training.corpus.core import Writer

__all__ = ["WRITERS", "inline"]

WRITERS: list[tuple[float, Writer]] = [
    (15, lists.problem_list),
    (5, lists.abbreviations),
    (10, lists.diagnosis_fields),
    (13, lists.history),
    (6, lists.family),
    (5, lists.histories),
    (4, lists.checklist),
    (12, notes.prose),
    (7, notes.soap),
    (7, notes.letter),
    (3, notes.nursing),
    (4, notes.emergency),
    (3, notes.checkup),
    (4, notes.decoys),
    (5, notes.plan_by_problem),
    (3, lists.disease_table),
    (4, lists.shared_lists),
    (4, notes.any_frame),
]

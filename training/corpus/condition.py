"""Disease sections of synthetic notes: the writers and their weights.

Blocks that set diseases beside what is none are in `condition_choice` and `condition_contrast`, layouts in `condition_lists` and `condition_notes`, sentences in `condition_prose`, words in `condition_words`.
"""

import random

from training.corpus import condition_choice as choice
from training.corpus import condition_lists as lists
from training.corpus import condition_notes as notes
from training.corpus import condition_prose
from training.corpus.core import Context, Fact, Writer
from training.corpus.names import Names

__all__ = ["WRITERS", "inline"]


def inline(rng: random.Random, names: Names, ctx: Context) -> tuple[str, list[Fact]]:
    """One clause or sentence that speaks of diseases or only seems to, for mixing into free text."""
    return (choice if rng.random() < 0.42 else condition_prose).inline(rng, names, ctx)


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
    (16, choice.sentences),
    (6, choice.operations),
    (8, choice.numbered),
    (9, choice.shared_bracket),
    (6, choice.diagnosis_of_findings),
]

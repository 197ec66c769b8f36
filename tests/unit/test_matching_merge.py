"""Several tables as one: official codes, the starter's names, and no meaning that moves unseen."""

import pytest

from app.terminology.entries import Entry, Part, starter_entries
from app.terminology.matching import Lexicon
from app.terminology.merge import merge
from schemas import systems
from schemas.coding import Coding
from schemas.statement import Kind

KEY = "http://medis.or.jp/CodeSystem/master-disease-keyNumber"


def made(name: str, *codes: tuple[str, str], names: tuple[str, ...] = (), kind: Kind | Part = Kind.CONDITION, **facts: str) -> Entry:
    codings = [Coding(system=system, code=code, display=name) for system, code in codes]
    return Entry(kind, name, (name, *names), codings, facts)


def starter(name: str, *codes: tuple[str, str], names: tuple[str, ...] = (), kind: Kind | Part = Kind.CONDITION, **facts: str) -> Entry:
    return made(name, *codes, names=names, kind=kind, table="starter", **facts)


def coded(lexicon: Lexicon, name: str, kind: Kind = Kind.CONDITION) -> list[tuple[str, str]]:
    entry = lexicon.lookup(kind, name)
    return [(c.system, c.code) for c in entry.codings] if entry else []


def test_the_starter_alone_stays_as_it_is() -> None:
    entries = starter_entries()
    assert merge(entries) == entries


def test_what_shares_a_code_is_one_with_the_official_display_first() -> None:
    official = made("２型糖尿病", (KEY, "20058217"), (systems.RECEIPT_DISEASE, "2500015"), (systems.ICD10, "E119"))
    chart = starter("2型糖尿病", (systems.RECEIPT_DISEASE, "2500015"), (systems.ICD10, "E119"), names=("DM2", "T2DM"), kana="にがた")
    for order in ([official, chart], [chart, official]):
        [entry] = merge(order)
        assert entry.display == "２型糖尿病"
        assert entry.names == ("２型糖尿病", "2型糖尿病", "DM2", "T2DM")
        # The starter's class does not stand beside the official one.
        assert [(c.system, c.code) for c in entry.codings] == [(KEY, "20058217"), (systems.RECEIPT_DISEASE, "2500015"), (systems.ICD10, "E119")]
        assert entry.fact("kana") == "にがた"
        assert entry.marked_names == ("2型糖尿病", "DM2", "T2DM")


def test_an_equal_name_joins_only_where_no_code_contradicts() -> None:
    joined = merge([made("胆嚢炎", (KEY, "1")), starter("胆のう炎", (systems.ICD10, "K81"), names=("胆炎",))])
    assert [entry.display for entry in joined] == ["胆嚢炎"]
    apart = merge([made("甲病", (systems.RECEIPT_DISEASE, "1")), starter("甲病", (systems.RECEIPT_DISEASE, "2"))])
    assert len(apart) == 2


def test_a_class_is_no_concept() -> None:
    both = merge([made("甲病", (KEY, "1"), (systems.ICD10, "A00")), made("乙病", (KEY, "2"), (systems.ICD10, "A00")), starter("丙病", (systems.ICD10, "A00"))])
    assert [entry.display for entry in both] == ["甲病", "乙病", "丙病"]


def test_an_official_term_keeps_its_own_code_and_an_abbreviation_the_starters_meaning() -> None:
    official = [
        made("虫垂炎", (KEY, "1")),
        made("急性虫垂炎", (KEY, "2"), names=("アッペ",)),
        made("他の病", (KEY, "3"), names=("PE", "アッペ痛")),
        made("MS", (KEY, "4")),
    ]
    chart = [starter("急性虫垂炎", (systems.ICD10, "K35"), names=("虫垂炎", "アッペ痛")), starter("肺塞栓症", (systems.ICD10, "I26"), names=("PE",))]
    chart.append(starter("僧帽弁狭窄症", (systems.ICD10, "I05"), names=("MS",)))
    lexicon = Lexicon(merge([*official, *chart]), "test")
    assert coded(lexicon, "虫垂炎") == [(KEY, "1")]
    assert coded(lexicon, "アッペ") == coded(lexicon, "アッペ痛") == [(KEY, "2"), (systems.ICD10, "K35")]
    assert coded(lexicon, "PE") == [(systems.ICD10, "I26")]
    assert coded(lexicon, "MS") == [(systems.ICD10, "I05")]
    assert lexicon.find(KEY, "4") is not None


def test_two_official_concepts_of_one_name_mean_neither() -> None:
    lexicon = Lexicon(merge([made("甲病", (KEY, "1")), made("甲病", (KEY, "2")), starter("乙病", (systems.ICD10, "A00"), names=("甲病",))]), "test")
    assert lexicon.lookup(Kind.CONDITION, "甲病") is None
    assert coded(lexicon, "乙病") == [(systems.ICD10, "A00")]


def test_what_is_retired_codes_nothing() -> None:
    retired = made("旧病", (KEY, "1"), (systems.RECEIPT_DISEASE, "7"), retired="true")
    chart = starter("旧病", (systems.RECEIPT_DISEASE, "7"), (systems.ICD10, "A00"), names=("古病",))
    lexicon = Lexicon(merge([retired, chart]), "test")
    assert not lexicon.holds(KEY, "1")
    # The receipt master did not retire its code; the disease number is another master's.
    assert coded(lexicon, "古病") == [(systems.RECEIPT_DISEASE, "7"), (systems.ICD10, "A00")]
    own = made("旧病", (systems.RECEIPT_DISEASE, "7"), retired="true")
    lexicon = Lexicon(merge([own, chart]), "test")
    assert not lexicon.holds(systems.RECEIPT_DISEASE, "7") and coded(lexicon, "旧病") == [(systems.ICD10, "A00")]
    # Another current row that has the code keeps it.
    assert Lexicon(merge([own, made("新病", (systems.RECEIPT_DISEASE, "7"))]), "test").holds(systems.RECEIPT_DISEASE, "7")


@pytest.mark.parametrize(
    ("system", "code", "found"),
    [
        (systems.CORE_LAB, "3A010000002399901", True),
        (systems.CORE_LAB, "3A010000002327101", False),
        (systems.CORE_LAB_11, "C1002000025000055", True),
        (systems.CORE_LAB_11, "C1002000025000155", False),
        (systems.JLAC10, "3A010000002327101", False),
    ],
)
def test_a_code_that_says_the_method_is_not_found_by_a_name(system: str, code: str, found: bool) -> None:
    lexicon = Lexicon(merge([made("架空項目", (system, code), kind=Kind.LAB)]), "test")
    assert (lexicon.lookup(Kind.LAB, "架空項目") is not None) is found
    assert lexicon.holds(system, code)
    assert [c.coding.code for c in lexicon.candidates(Kind.LAB, "架空項目")] == [code]


def test_names_of_tests_stay_the_starters() -> None:
    chart = starter("TP", (systems.CORE_LAB, "3A010000002399901"), names=("総蛋白",), kind=Kind.LAB, specimen="血清")
    plasma = made("TP", (systems.CORE_LAB, "3A010000002299901"), names=("総蛋白",), kind=Kind.LAB)
    lexicon = Lexicon(merge([plasma, chart]), "test")
    for name in ("TP", "総蛋白"):
        assert coded(lexicon, name, Kind.LAB) == [(systems.CORE_LAB, "3A010000002399901")]
    assert lexicon.lab_displays[systems.CORE_LAB, "3A010000002299901"] == "TP"


def test_only_the_starters_names_are_marked() -> None:
    official = [made("アムロジピン錠5mg", (systems.YJ, "1"), kind=Kind.PRESCRIPTION), made("新しい病", (KEY, "1")), made("胃癌", (KEY, "2"))]
    chart = [starter("胃癌", (systems.ICD10, "C16"), names=("胃がん",)), starter("製品", (systems.YJ, "2"), kind=Kind.PRESCRIPTION, unmarked="true")]
    lexicon = Lexicon(merge([*official, *chart]), "test")
    text = "胃癌、胃がん、新しい病、アムロジピン錠5mg、製品"
    assert [text[m.start : m.end] for m in lexicon.find_mentions(text)] == ["胃癌", "胃がん"]


def test_codings_are_made_when_asked_for() -> None:
    coding = Coding(system=KEY, code="1", display="甲病", version="5.17")
    entry = Entry(Kind.CONDITION, "甲病", ("甲病", "甲"), (coding,), {"kana": "こう", "empty": ""})
    assert entry.codings == (coding,) and entry.properties == {"kana": "こう", "empty": ""}
    assert entry.fact("kana") == "こう" and entry.fact("none") == "" and entry.code(KEY) == "1" and entry.code(systems.YJ) is None
    assert entry == Entry(Kind.CONDITION, "甲病", ("甲病", "甲"), [coding]) and hash(entry)

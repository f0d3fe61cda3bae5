"""The classes of cells, and how they may change without anything that is known becoming wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_cervcell.taxonomy import BETHESDA, CellClass, Taxonomy

AGC = CellClass("AGC", "G", "#7a5cc0", "7", "high grade", 5)


def changed(index: int, **what: object) -> list[CellClass]:
    classes = list(BETHESDA.classes)
    classes[index] = replace(classes[index], **what)
    return classes


def test_the_default_is_the_bethesda_system_from_mild_to_severe() -> None:
    assert BETHESDA.names == ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
    assert [c.rank for c in BETHESDA.classes] == sorted(c.rank for c in BETHESDA.classes)


def test_keys_letters_and_colours_tell_classes_apart() -> None:
    for what in ("key", "letter", "color"):
        assert len({getattr(c, what) for c in BETHESDA.classes}) == len(BETHESDA)


def test_names_are_found_as_people_write_them() -> None:
    assert BETHESDA.index(" asc-us ") == 1
    with pytest.raises(KeyError, match=r"AGC.*NILM, ASC-US"):
        BETHESDA.index("AGC")


def test_a_taxonomy_survives_json() -> None:
    assert Taxonomy.from_json(BETHESDA.to_json()) == BETHESDA
    edited = BETHESDA.edited([*changed(1, name="ASCUS", into=2), replace(AGC, hidden=True)])
    assert Taxonomy.from_json(edited.to_json()) == edited


def test_a_renamed_class_is_found_by_every_name_it_had() -> None:
    once = BETHESDA.edited(changed(1, name="ASCUS"))
    twice = once.edited([replace(c, name="Atypia") if c.name == "ASCUS" else c for c in once.classes])
    assert [twice.index(name) for name in ("ASC-US", "ascus", "Atypia")] == [1, 1, 1]
    assert twice.continues(BETHESDA)
    assert twice.continues(once)
    back = twice.edited([replace(c, name="ASC-US") if c.name == "Atypia" else c for c in twice.classes])
    assert back.continues(twice)


def test_a_new_class_comes_last_and_older_models_stay_right() -> None:
    wider = BETHESDA.edited([*BETHESDA.classes, AGC])
    assert wider.index("AGC") == 6
    assert wider.continues(BETHESDA)
    assert not BETHESDA.continues(wider)
    assert not Taxonomy("blood", (AGC, *BETHESDA.classes)).continues(BETHESDA)


def test_cells_of_a_merged_class_count_as_the_others() -> None:
    merged = BETHESDA.edited(changed(1, into=2))
    assert merged.merged(np.array([0, 1, 2, -1], np.int16)).tolist() == [0, 2, 2, -1]
    assert merged.index("ASC-US") == 2
    assert merged.offered == [0, 2, 3, 4, 5]
    further = merged.edited([replace(c, into=4) if c.name == "LSIL" else replace(c, into=-1) for c in merged.classes])
    assert further.merged(np.array([1, 2], np.int16)).tolist() == [1, 4]


def test_a_hidden_class_is_not_offered_and_keeps_its_cells() -> None:
    hidden = BETHESDA.edited(changed(5, hidden=True))
    assert hidden.offered == [0, 1, 2, 3, 4]
    assert hidden.merged(np.array([5], np.int16)).tolist() == [5]


@pytest.mark.parametrize(
    ("classes", "complaint"),
    [
        (list(BETHESDA.classes[:5]), "cannot be taken away"),
        (changed(1, name="hsil"), "Two classes"),
        (changed(1, name="  "), "needs a name"),
        (changed(1, letter=""), "letters"),
        (changed(1, letter="H"), "same letter"),
        (changed(1, key="5"), "same key 5"),
        (changed(1, key="n"), "1 to 9"),
        (changed(1, into=1), "merged"),
        ([replace(c, into=(i + 1) % 6) for i, c in enumerate(BETHESDA.classes)], "merged"),
        ([replace(c, hidden=True) for c in BETHESDA.classes], "At least one"),
        ([*BETHESDA.classes, replace(AGC, name="ASC-US")], "Two classes"),
    ],
)
def test_what_could_not_be_told_apart_is_refused(classes: list[CellClass], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        BETHESDA.edited(classes)

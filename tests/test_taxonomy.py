from __future__ import annotations

import pytest

from napari_cervcell.taxonomy import BETHESDA, Taxonomy


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

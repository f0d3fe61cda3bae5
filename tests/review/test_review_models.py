"""Models of rounds: out, in, and side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Case, CaseError
from napari_cervcell.errors import CervcellError
from napari_cervcell.models import Model, ModelError, load_model, model_from_bytes
from napari_cervcell.review import ReviewError
from napari_cervcell.review.comparison import compare
from napari_cervcell.review.models import export_model, import_model
from napari_cervcell.taxonomy import BETHESDA, Taxonomy


def test_a_model_goes_from_one_case_to_another(case: Case, small_model: Model, tmp_path: Path) -> None:
    number = case.start_round("shipped", {})
    case.finish_round(number, "promoted", {}, small_model.to_bytes(), small_model.id, "better")
    export_model(case, number, tmp_path / "model.safetensors")
    assert [p.name for p in tmp_path.glob("model*")] == ["model.safetensors"]
    imported = import_model(case, tmp_path / "model.safetensors")
    assert case.active_round == number  # it is kept, not used
    last = case.rounds()[-1]
    assert (last.id, last.state, last.model_id) == (imported, "candidate", small_model.id)
    assert last.parent_model_id == small_model.id
    assert "model.safetensors" in last.message
    case.use_round(imported)
    assert model_from_bytes(case.active_model()[1]).id == small_model.id


def test_an_imported_model_is_compared_with_the_shipped_one_where_that_is_in_use(
    case: Case, scan, quick_file: Path
) -> None:
    scan(load_model().id, [(100, 100, 0, 0.9, 1), (300, 100, 1, 0.8, 1)])
    imported = import_model(case, quick_file)
    made = case.rounds()[-1]
    scan(made.model_id, [(100, 100, 0, 0.9, 1), (500, 100, 1, 0.8, 1)])
    found = compare(case, made.parent_model_id, made.model_id, 0.5)
    np.testing.assert_allclose(found.appeared.centres, [(500, 100)])
    np.testing.assert_allclose(found.vanished.centres, [(300, 100)])
    assert case.round_before(imported) is None  # from which it is rolled back to the shipped one


def test_what_cannot_be_brought_out_or_in_is_explained(case: Case, small_model: Model, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no model"):
        export_model(case, 1, tmp_path / "x")
    number = case.start_round("shipped", {})
    case.finish_round(number, "candidate", {}, small_model.to_bytes(), small_model.id)
    with pytest.raises(ReviewError, match="nowhere"):
        export_model(case, number, tmp_path / "nowhere" / "x")
    (tmp_path / "broken").write_bytes(b"no model")
    with pytest.raises(CervcellError, match="broken"):
        import_model(case, tmp_path / "broken")
    export_model(case, number, tmp_path / "good")
    two = Case.create(
        tmp_path / "two.cervcell",
        slide_name="a",
        fingerprint="b",
        width=9,
        height=9,
        mpp=None,
        taxonomy=Taxonomy("two", BETHESDA.classes[:2]),
    )
    with two, pytest.raises(ModelError, match="the case has NILM, ASC-US"):
        import_model(two, tmp_path / "good")
    assert len(case.rounds()) == 1


def test_what_appeared_and_what_vanished_the_surest_first(case: Case, scan) -> None:
    with pytest.raises(ReviewError, match="not looked"):
        compare(case, "one", "two", 0.5)
    scan("one", [(100, 100, 0, 0.9, 1), (300, 100, 1, 0.8, 1), (500, 100, 4, 0.7, 1), (700, 100, 0, 0.6, 1)])
    scan("one", [(1500, 100, 0, 0.9, 1)], place=(1000, 0))
    with pytest.raises(ReviewError, match="not looked"):
        compare(case, "one", "two", 0.5)
    scan("two", [(104, 100, 3, 0.9, 1), (500, 500, 2, 0.6, 1), (700, 500, 2, 0.95, 1), (300, 100, 1, 0.4, 1)])
    found = compare(case, "one", "two", 0.5)
    np.testing.assert_allclose(found.appeared.centres, [(700, 500), (500, 500)])
    np.testing.assert_allclose(found.vanished.centres, [(300, 100), (500, 100), (700, 100)])

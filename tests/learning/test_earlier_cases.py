"""What was taught on one case, and whether a round on the next one forgets it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Case, State, Verdict, note_place, open_case, place_of
from napari_cervcell.learning import current_model, held_back, quick, rounds
from napari_cervcell.learning.earlier import Earlier, earlier_cases
from napari_cervcell.learning.evaluation import evaluate
from napari_cervcell.learning.features import FeatureMemory
from napari_cervcell.learning.known import Known, in_turn
from napari_cervcell.learning.promotion import compared, judge
from napari_cervcell.learning.quick import prepare, quick_round
from napari_cervcell.learning.recipe import Recipe, recipe_for
from napari_cervcell.learning.rounds import train_round
from napari_cervcell.models import Model, load_model, save_model
from napari_cervcell.review import ReviewError
from napari_cervcell.review.models import import_model
from napari_cervcell.slides import Slide
from napari_cervcell.taxonomy import BETHESDA, CellClass

SEVEN = BETHESDA.edited([*BETHESDA.classes, CellClass("AGC", "G", "#7a5cc0", "7", "high grade", 5)])
LSIL = BETHESDA.index("LSIL")

pytestmark = pytest.mark.usefixtures("few_earlier_fields")


@pytest.fixture
def memory() -> FeatureMemory:
    return FeatureMemory()


def without_opinion(model: Model) -> Recipe:
    return replace(recipe_for(model), opinion=False)


@pytest.fixture(scope="module")
def taught(
    other_slide: Slide,
    sample_cells: dict[str, np.ndarray],
    quick_file: Path,
    few_fields: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with a case whose reviewer wants nothing to do with LSIL, and the model that learnt it."""
    folder = tmp_path_factory.mktemp("taught")
    with (
        open_case(folder / "first.cervcell", other_slide, taxonomy=SEVEN) as case,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(rounds, "REPLAY", few_fields)
        patch.setattr(quick, "recipe_for", without_opinion)
        case.use_round(import_model(case, quick_file))
        case.record([Verdict("add", box, 0) for box in sample_cells["NILM"][:12]])
        case.record([Verdict("reject", box, -1, detected_label=LSIL) for box in sample_cells["LSIL"][:40]])
        outcome = quick_round(case, other_slide, FeatureMemory(), steps=60)
        save_model(outcome.model, folder / "taught.safetensors")
    return folder


@pytest.fixture
def first(taught: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(taught / "first.cervcell", tmp_path))


@pytest.fixture
def second(taught: Path, sample: Slide, sample_cells: dict[str, np.ndarray], tmp_path: Path) -> Path:
    """A later case with the model of the first one, on which nothing is said of LSIL."""
    path = tmp_path / "second.cervcell"
    with open_case(path, sample, taxonomy=SEVEN) as case:
        case.use_round(import_model(case, taught / "taught.safetensors"))
        case.record([Verdict("add", box, 0) for box in sample_cells["NILM"][-15:]])
    return path


def test_a_model_tells_which_cases_it_has_learnt_from_and_not_where_they_are(
    first: Path, second: Path, sample: Slide, memory: FeatureMemory
) -> None:
    with Case.open(first) as case, Case.open(second) as later:
        assert current_model(later).card["learnt_from"] == [case.uid] != [later.uid]
        made = quick_round(later, sample, memory, steps=2).model
        assert made.card["learnt_from"] == [case.uid, later.uid]
        assert first.stem not in str(made.card)
        later.use_round(None)
        assert "learnt_from" not in current_model(later).card


def test_what_was_taught_on_an_earlier_case_is_not_forgotten_on_the_next(
    first: Path, second: Path, sample: Slide, memory: FeatureMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By replaying it alone; the opinion of the model before keeps some of it, too."""
    with Case.open(first) as case:
        said = case.annotations()
        taught = said[~held_back(said.ids) & (said.states == State.REJECTED)]
        with Case.open(second) as later:
            knew = judge(current_model(later), sample, taught).mean()
            held_on = quick_round(later, sample, memory, steps=60)
            monkeypatch.setattr(quick, "recipe_for", without_opinion)
            alone = quick_round(later, sample, memory, steps=60)
            note_place(case)
            beside = quick_round(later, sample, memory, steps=60)
    assert alone.metrics["earlier_cases"] == {"replayed": 0, "missing": 1, "held_back": 0}
    assert "1 earlier case could not be used (It is not known where it is." in alone.message
    figures = beside.metrics["earlier_cases"]
    assert (figures["replayed"], figures["missing"]) == (1, 0)
    assert figures["held_back"] == held_back(said.ids).sum() > 0
    assert f"with {figures['held_back']} of earlier cases" in beside.message
    # the fields that ship with the plugin teach to find LSIL
    forgot, kept = (judge(outcome.model, sample, taught).mean() for outcome in (alone, beside))
    assert forgot < knew - 0.2
    assert kept > forgot + 0.1
    assert judge(held_on.model, sample, taught).mean() > forgot + 0.1


def test_the_model_of_another_case_comes_with_what_it_was_taught(
    first: Path, taught: Path, sample: Slide, quick_file: Path, tmp_path: Path
) -> None:
    with open_case(tmp_path / "third.cervcell", sample, taxonomy=SEVEN) as case:
        with Case.open(first) as other:
            other.use_round(import_model(other, taught / "taught.safetensors"))
        case.use_round(import_model(case, first))
        model = current_model(case)
        assert model.id == load_model(taught / "taught.safetensors").id
        with earlier_cases(model, case) as earlier:
            assert (len(earlier.cases), earlier.missing) == (1, ())
        with Case.open(first) as other:
            other.use_round(None)
        with pytest.raises(ReviewError, match=r"first\.cervcell uses the standard model, which is here already"):
            import_model(case, first)
        assert len(case.rounds()) == 1


def test_a_full_round_replays_earlier_cases_too(first: Path, second: Path, sample: Slide) -> None:
    with Case.open(first) as case:
        note_place(case)
    with Case.open(second) as later:
        outcome = train_round(later, sample, steps=2)
    assert outcome.metrics["earlier_cases"]["replayed"] == 1


def test_a_model_that_has_forgotten_an_earlier_case_is_not_promoted(
    taught: Path, first: Path, sample: Slide, quick_model: Model
) -> None:
    with Case.open(first) as case:
        known = Known.of(case, sample)
        judges = known.annotations[held_back(known.annotations.ids)]
        nothing = judges[:0]
        knows = load_model(taught / "taught.safetensors")
    assert len(judges)
    earlier = Earlier(((sample, known),))
    widened = quick_model.widened(SEVEN)  # it finds LSIL
    assert compared(knows, widened, sample, nothing, [], evaluate, earlier).promoted
    outcome = compared(widened, knows, sample, nothing, [], evaluate, earlier)
    assert not outcome.promoted
    assert outcome.metrics["earlier_cases"]["after"] < outcome.metrics["earlier_cases"]["before"]


def test_earlier_cases_that_are_gone_or_others_by_now_are_missing(first: Path, second: Path, sample: Slide) -> None:
    with Case.open(second) as later:
        model = current_model(later)
        uid = model.card["learnt_from"][0]

        def found() -> tuple[int, int]:
            with earlier_cases(model, later) as earlier:
                return len(earlier.cases), len(earlier.missing)

        assert found() == (0, 1)
        with Case.open(first) as case:
            note_place(case)
        assert place_of(uid) == first
        assert found() == (1, 0)
        moved = first.rename(first.with_name("moved.cervcell"))
        assert found() == (0, 1)
        open_case(first, sample).close()  # a new case in its place
        assert found() == (0, 1)
        with Case.open(moved) as case:
            note_place(case)  # as when it is opened next
            assert found() == (1, 0)
            case.slide_path = first.with_name("gone.svs")
        assert found() == (0, 1)
        narrow = open_case(first.with_name("narrow.cervcell"), sample)  # its classes lack the seventh
        with narrow, earlier_cases(model, narrow) as earlier:
            assert not earlier.cases
            assert earlier.missing == (f"{moved} names other classes.",)


def test_an_earlier_case_of_the_same_slide_is_not_replayed(second: Path, sample: Slide) -> None:
    """It would teach what is held back here, and perhaps the contrary of what was said here."""
    third = second.with_name("third.cervcell")
    with open_case(third, sample, taxonomy=SEVEN) as again, Case.open(second) as case:
        note_place(case)
        model = current_model(case)
        model.card["learnt_from"] = [case.uid]
        with earlier_cases(model, again) as earlier:
            assert (earlier.cases, earlier.missing) == ((), ())


@pytest.mark.parametrize("uid", ["../first", "", "a/b", "no such case"])
def test_an_id_from_a_strangers_model_leads_nowhere(uid: str) -> None:
    assert place_of(uid) is None


def test_each_class_comes_in_turn_the_newest_first(first: Path) -> None:
    with Case.open(first) as case:
        case.record([Verdict("add", np.array([9, 9, 69, 69], np.float32), LSIL)])
        turned = in_turn(case.annotations())
    kinds = np.where(turned.states == State.REJECTED, -1, turned.labels)
    assert set(kinds[:3]) == {-1, 0, LSIL}
    assert sorted(kinds[3:25]) == [-1] * 11 + [0] * 11  # in turn, until there are no more of the rarer
    assert (kinds[25:] == -1).all()
    for kind in (-1, 0):
        assert (np.diff(turned.ids[kinds == kind]) < 0).all()


def test_what_is_looked_at_while_idle_is_there_for_the_round(
    first: Path, second: Path, sample: Slide, memory: FeatureMemory
) -> None:
    with Case.open(first) as case:
        note_place(case)
    with Case.open(second) as later:
        for _ in prepare(later, sample, memory):
            pass
        seen = len(memory)
        quick_round(later, sample, memory, steps=2)
    assert len(memory) == seen

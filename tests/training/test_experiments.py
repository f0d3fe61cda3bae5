"""Every experiment runs from its command, goes on where it stopped, and writes its table."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import napari_cervcell.learning

ROOT = Path(__file__).parents[2] / "training"
FIELDS = Path(napari_cervcell.learning.__file__).parent / "replay"
EXPERIMENTS = (
    "sparse_labels",
    "rare_classes",
    "long_tail",
    "long_tail_heads",
    "hard_negatives",
    "unlabelled",
    "one_out",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_writes_a_table_and_a_plot_and_is_not_run_twice(name: str, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    experiment = importlib.import_module(name)
    arguments = ["--data", str(FIELDS), "--scale", "smoke", "--cache", str(cache), "--results", str(tmp_path)]
    table = experiment.main(arguments)
    assert table.rows
    assert all(np.isfinite(float(row[f])) for row in table.rows for f in table.figures if row.get(f))
    assert "smoke run" in table.path.with_suffix(".md").read_text(encoding="utf-8")
    assert table.path.with_suffix(".png").stat().st_size > 0

    first = table.path.read_text(encoding="utf-8").splitlines()
    table.path.write_text("\n".join([*first[:-1], ""]), encoding="utf-8")  # as if cut off before the last cell
    ran = []
    again = importlib.import_module("experiments.table").Table(table.path, table.keys, None)
    again.settings, again.rows = table.settings, table.rows[:-1]
    again.fill([tuple(r[k] for k in table.keys) for r in table.rows], lambda *cell: ran.append(cell) or {"ap": 0.0})
    assert ran == [tuple(table.rows[-1][k] for k in table.keys)]


def test_rows_of_an_earlier_form_of_an_experiment_are_dropped(tmp_path: Path) -> None:
    from experiments.table import Table  # of the scripts' folder

    path = tmp_path / "t.csv"
    Table(path, ("rule", "seed"), "steps 3").fill([("a", 0)], lambda *_: {"ap": 0.5})
    assert len(Table(path, ("rule", "seed"), "steps 3").rows) == 1
    assert not Table(path, ("rule", "seed"), "steps 4").rows


def test_the_mean_over_seeds_has_its_spread(tmp_path: Path) -> None:
    from experiments.table import Table

    table = Table(tmp_path / "t.csv", ("rule", "seed"), None)
    table.fill([("a", s) for s in range(3)], lambda rule, seed: {"ap": 0.1 * seed})
    table.markdown("Title", "", smoke=False)
    assert "| a | 0.100 ± 0.082 | 3 |" in table.path.with_suffix(".md").read_text(encoding="utf-8")


def test_the_same_seed_keeps_the_same_cells_and_a_share_or_a_number_of_them(cache: Path) -> None:
    sparse = importlib.import_module("sparse_labels")
    table, features = (importlib.import_module(f"experiments.{n}") for n in ("table", "features"))
    fields = table.fields_by_split(FIELDS, smoke=True)["train"]
    sheets = list(features.sheets(fields, [f.name for f in fields], features.untrained(), cache).values())
    kept = sparse.kept_cells(sheets, "3 a field", 1)
    assert [int(k.sum()) for k in kept] == [min(3, len(s.labels)) for s in sheets]
    for labels in ("0.4", "3 a field"):
        for a, b in zip(sparse.kept_cells(sheets, labels, 1), sparse.kept_cells(sheets, labels, 1), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_dropped_cell_is_unknown_and_a_checked_field_has_nothing_unknown(cache: Path) -> None:
    finding, table, features = (importlib.import_module(f"experiments.{n}") for n in ("finding", "table", "features"))
    fields = table.fields_by_split(FIELDS, smoke=True)["train"]
    sheets = list(features.sheets(fields, [f.name for f in fields], features.untrained(), cache).values())
    whole = finding.locations(sheets, [np.ones(len(s.labels), bool) for s in sheets], checked=[True] * len(sheets))
    assert not len(whole.unknown)
    none = finding.locations(sheets, [np.zeros(len(s.labels), bool) for s in sheets])
    assert not len(none.positive)
    assert set(whole.positive) <= set(none.unknown)

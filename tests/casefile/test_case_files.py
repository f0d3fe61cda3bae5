"""The file itself: made, opened, refused, shared, killed, and on a disk that is full."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Case, CaseError, Verdict, default_case_path, export_case, open_case
from napari_cervcell.cells import Cells
from napari_cervcell.taxonomy import BETHESDA, Taxonomy

BOX = (10.0, 20.0, 50.0, 60.0)
SPAWN = multiprocessing.get_context("spawn")


def in_child(target: Callable[..., None], *args: object) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    """Start `target(connection, *args)` in a process of its own."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(theirs, *args))
    process.start()
    theirs.close()
    return process, ours


# opening and making


def test_a_case_remembers_its_slide(slide, tmp_path: Path) -> None:
    path = default_case_path(slide.path)
    assert path == tmp_path / "one.svs.cervcell"
    with open_case(path, slide, reviewer="ada") as case:
        case.record([Verdict("add", BOX, 1)])
        case.mpp = 0.5
    with open_case(path, slide, reviewer="grace") as case:
        assert (case.slide_name, case.fingerprint, case.width, case.height) == ("one.svs", "f00d", 20_000, 10_000)
        assert (case.mpp, case.taxonomy, case.reviewer, case.path) == (0.5, BETHESDA, "grace", path)
        assert len(case.annotations()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]  # no -wal, no -shm


def test_a_case_of_before_random_draws_were_noted_opens_and_goes_on(slide, tmp_path: Path) -> None:
    path = tmp_path / "c"
    with open_case(path, slide) as case:
        case.record([Verdict("add", BOX, 1)])
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE events DROP COLUMN drawn")
    connection.close()
    with open_case(path, slide) as case:
        assert [event.drawn for event in case.events()] == [None]
        case.record([Verdict("accept", (100, 100, 140, 140), 2, detected_label=2, model_id="m", drawn=True)])
    with open_case(path, slide) as case:
        assert case.annotations().drawn.tolist() == [False, True]
        assert case.annotations().model_ids.tolist() == ["", "m"]
        assert [event.drawn for event in case.events()] == [None, 1]


def test_a_case_keeps_the_taxonomy_that_it_was_made_with(slide, tmp_path: Path) -> None:
    two = Taxonomy("two", BETHESDA.classes[:2])
    open_case(tmp_path / "c", slide, taxonomy=two).close()
    with open_case(tmp_path / "c", slide) as case:
        assert case.taxonomy == two
        with pytest.raises(ValueError, match="not a class"):
            case.record([Verdict("add", BOX, 2)])


def test_a_case_finds_its_slide_again(slide, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    (tmp_path / "cases").mkdir()
    slide.path = tmp_path / "slides" / "one.svs"
    slide.path.touch()
    path = tmp_path / "cases" / "c.cervcell"
    open_case(path, slide).close()
    with Case.open(path) as case:
        assert case.slide_path == slide.path
        slide.path = slide.path.rename(tmp_path / "cases" / "one.svs")  # moved to the case without a word
        assert case.slide_path == slide.path
        slide.path = slide.path.rename(tmp_path / "other.svs")
        open_case(path, slide).close()
        assert case.slide_path == slide.path


def test_a_scale_learnt_later_is_remembered(slide, tmp_path: Path) -> None:
    slide.mpp = None
    with open_case(tmp_path / "c", slide) as case:
        assert case.mpp is None
    slide.mpp = 0.25
    open_case(tmp_path / "c", slide).close()
    with Case.open(tmp_path / "c") as case:
        assert case.mpp == 0.25


def test_the_place_looked_at_last_is_remembered(case: Case) -> None:
    assert case.place is None
    case.place = (100.0, 200.0, 0.25)
    case.place = (6000.5, 3500.0, 0.8)
    with Case.open(case.path) as again:
        assert again.place == (6000.5, 3500.0, 0.8)


def test_the_reviewer_is_by_default_whoever_is_logged_in(slide, tmp_path: Path) -> None:
    with open_case(tmp_path / "c", slide) as case:
        assert case.reviewer


def test_a_closed_case_says_so(case: Case) -> None:
    case.close()
    with pytest.raises(CaseError, match="closed"):
        case.record([Verdict("add", BOX, 1)])


# what is not a case, or not this one


def test_the_case_of_another_slide_names_both(slide, case: Case, tmp_path: Path) -> None:
    slide.path, slide.fingerprint = tmp_path / "two.svs", "beef"
    with pytest.raises(CaseError, match=r"one\.svs.*two\.svs"):
        open_case(case.path, slide)


def test_files_that_are_no_cases_are_refused_and_left_alone(tmp_path: Path) -> None:
    text, empty, other, folder = (tmp_path / name for name in ("text", "empty", "other", "folder"))
    text.write_text("not a database " * 1000)
    empty.touch()
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE meta (key, value)")
    connection.close()
    folder.mkdir()
    before = other.read_bytes()
    for path, reason in [
        (text, "not a case file"),
        (empty, "is empty"),
        (other, "another program"),
        (folder, "folder"),
        (tmp_path / "none", "No such file"),
    ]:
        with pytest.raises(CaseError, match=reason) as caught:
            Case.open(path)
        assert str(path) in str(caught.value)
    assert other.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "folder", "other", "text"]


def test_a_case_of_a_newer_version(case: Case) -> None:
    case.close()
    connection = sqlite3.connect(case.path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = case.path.read_bytes()
    with pytest.raises(CaseError, match="newer napari-cervcell"):
        Case.open(case.path)
    assert case.path.read_bytes() == before


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_a_case_cut_short(case: Case, share: float) -> None:
    run = case.start_run("m", "m", "slide")
    cells = Cells(np.zeros((5000, 4)), np.zeros(5000), np.zeros(5000), np.zeros(5000))
    case.write_tile(run, 0, 0, 512, cells)
    case.close()
    os.truncate(case.path, int(case.path.stat().st_size * share))
    with pytest.raises(CaseError, match=r"not a case file|damaged or cut short") as caught:
        Case.open(case.path)
    assert str(case.path) in str(caught.value)


def test_a_case_that_lost_its_meta(case: Case) -> None:
    case.close()
    connection = sqlite3.connect(case.path)
    connection.execute("DELETE FROM meta")
    connection.commit()
    connection.close()
    with pytest.raises(CaseError, match="damaged"):
        Case.open(case.path)


def test_an_existing_file_is_never_replaced(case: Case) -> None:
    case.record([Verdict("add", BOX, 1)])
    with pytest.raises(CaseError, match="exists already"):
        Case.create(case.path, slide_name="s", fingerprint="f", width=1, height=1, mpp=None)
    assert len(case.annotations()) == 1


# read-only places


def test_places_where_no_file_can_be_made(slide, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none" / "c", tmp_path / "file" / "c", Path("/proc/c.cervcell")):
        with pytest.raises(CaseError, match="Choose a folder where you may write"):
            open_case(path, slide)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that a process without rights can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _as_nobody(connection: Connection, path: Path) -> None:
    if os.getuid() == 0:  # rights do not bind root
        os.setgid(65534)
        os.setuid(65534)
    new = {"slide_name": "s", "fingerprint": "f", "width": 1, "height": 1, "mpp": None}
    for use in (lambda: Case.open(path), lambda: Case.create(path.with_name("new.cervcell"), **new)):
        try:
            use()
        except CaseError as error:
            connection.send(str(error))


def test_a_read_only_folder(public_folder: Path, slide) -> None:
    path = public_folder / "case.cervcell"
    with open_case(path, slide) as case:
        case.record([Verdict("add", BOX, 1)])
    path.chmod(0o444)
    public_folder.chmod(0o555)
    process, connection = in_child(_as_nobody, path)
    existing, new = connection.recv(), connection.recv()
    process.join()
    public_folder.chmod(0o755)
    assert "read-only" in existing
    assert str(path) in existing
    assert "Permission denied" in new
    assert [p.name for p in public_folder.iterdir()] == [path.name]
    path.chmod(0o644)
    with Case.open(path) as case:
        assert len(case.annotations()) == 1


# full disks


def test_a_full_database_says_so_keeps_all_and_goes_on_once_there_is_room(case: Case) -> None:
    case.record([Verdict("add", BOX, 1)])
    run = case.start_run("m", "m", "slide")
    big = Cells(np.zeros((9000, 4)), np.zeros(9000), np.zeros(9000), np.zeros(9000))
    with case._store.access() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(CaseError, match="The disk is full") as caught:
        case.write_tile(run, 0, 0, 512, big)
    assert str(case.path) in str(caught.value)
    many = [Verdict("add", BOX, 2)] * 1000
    with pytest.raises(CaseError, match="The disk is full"):
        case.record(many)
    assert case.annotations().labels.tolist() == [1]
    with case._store.access() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    case.write_tile(run, 0, 0, 512, big)
    case.record(many)
    assert case.undo()
    with Case.open(case.path) as again:
        assert again.annotations().labels.tolist() == [1]
        assert len(again.detections()) == 9000


def _fill_the_disk(connection: Connection, path: Path) -> None:
    """Files of this process may not grow beyond a limit: as on a full disk, writes fail halfway."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    case = Case.open(path)
    limit = path.with_name(path.name + "-wal").stat().st_size + 100_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    saved = 0
    try:
        while saved < 10_000:
            case.record([Verdict("add", BOX, saved % 6)] * 10)
            saved += 10
    except CaseError as error:
        connection.send((saved, str(error)))
    try:
        export_case(case, path.with_name("out.csv"), "csv")
    except CaseError as error:
        connection.send(str(error))
    else:
        connection.send("")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    case.record([Verdict("reject", BOX, 0)])
    case.close()
    connection.send(saved + 1)


def test_a_disk_that_fills_up_while_saving(case: Case) -> None:
    case.close()
    process, connection = in_child(_fill_the_disk, case.path)
    saved, message = connection.recv()
    assert "disk" in message
    assert "full" in message
    assert saved > 0
    connection.recv()
    assert connection.recv() == saved + 1
    process.join()
    assert process.exitcode == 0
    with Case.open(case.path) as again:
        assert len(again.annotations()) == saved + 1


def test_a_case_that_cannot_be_made_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from napari_cervcell.casefile import Case, CaseError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try: Case.create(sys.argv[1], slide_name='s', fingerprint='f', width=1, height=1, mpp=None)\n"
        "except CaseError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, str(tmp_path / "c.cervcell")]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert "full" in output
    assert list(tmp_path.iterdir()) == []


# death


def _record_for_ever(connection: Connection, path: Path) -> None:
    rng = random.Random(0)
    case = Case.open(path)
    while True:
        labels = [rng.randrange(6) for _ in range(rng.randint(1, 3))]
        ids = case.record([Verdict("add", BOX, label) for label in labels])
        connection.send(list(zip(ids, labels, strict=True)))


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_at_any_moment_loses_nothing_that_was_saved(case: Case, seed: int) -> None:
    case.close()
    process, connection = in_child(_record_for_ever, case.path)
    saved = dict(connection.recv())
    time.sleep(random.Random(seed).uniform(0, 0.4))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    try:
        while True:
            saved.update(connection.recv())
    except EOFError:
        pass
    with Case.open(case.path) as again:
        known = again.annotations()
        found = dict(zip(known.ids.tolist(), known.labels.tolist(), strict=True))
        assert saved.items() <= found.items()
        assert len(found) - len(saved) <= 3  # the group that was on disk but not reported yet
        again.record([Verdict("add", BOX, 1)])
        assert len(again.annotations()) == len(found) + 1


# company


def _record_some(connection: Connection, path: Path, name: str, n: int) -> None:
    with Case.open(path, reviewer=name) as case:
        ids = [case.record([Verdict("add", BOX, i % 6)])[0] for i in range(n)]
        connection.send(ids)


def test_processes_that_write_at_once_lose_nothing(case: Case) -> None:
    children = [in_child(_record_some, case.path, name, 40) for name in ("b", "c")]
    mine = [case.record([Verdict("add", BOX, i % 6)])[0] for i in range(40)]
    theirs = [i for _, connection in children for i in connection.recv()]
    for process, _ in children:
        process.join()
    assert sorted(mine + theirs) == case.annotations().ids.tolist()
    assert len(set(mine + theirs)) == 120


def test_what_another_process_writes_is_seen_without_opening_again(case: Case) -> None:
    with Case.open(case.path) as other:
        [cell] = case.record([Verdict("add", BOX, 1)])
        assert other.annotations().ids.tolist() == [cell]
        assert other.undo()
        assert len(case.annotations()) == 0
        assert case.redo()
        assert other.annotations().ids.tolist() == [cell]


def test_threads_that_share_a_case_lose_nothing(case: Case) -> None:
    run = case.start_run("m", "m", "slide")
    one = Cells(np.array([BOX]), [1], [0.5], [0.5])
    failures: list[BaseException] = []

    def work(column: int) -> None:
        try:
            for row in range(25):
                case.write_tile(run, column * 512, row * 512, 512, one)
                case.record([Verdict("add", BOX, column)])
                case.annotations()
                case.detections()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(case.detections()) == 100
    assert np.bincount(case.annotations().labels).tolist() == [25] * 4


def test_a_case_that_another_program_holds_says_so(case: Case) -> None:
    other = sqlite3.connect(case.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with case._store.access() as connection:
        connection.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(CaseError, match="busy in another program"):
        case.record([Verdict("add", BOX, 1)])
    other.execute("ROLLBACK")
    other.close()
    assert case.record([Verdict("add", BOX, 1)])


def test_the_casefile_room_loads_no_torch_qt_or_napari() -> None:
    code = "import sys, napari_cervcell.casefile; print({m.partition('.')[0] for m in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout
    for heavy in ("torch", "napari", "qtpy", "PyQt5", "PyQt6"):
        assert f"'{heavy}'" not in loaded

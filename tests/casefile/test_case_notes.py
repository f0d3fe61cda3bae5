"""What reviewers note on a case as a whole."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from napari_cervcell.casefile import default_case_path, open_case


def test_notes_are_kept_with_what_they_were_before(slide, tmp_path: Path) -> None:
    path = default_case_path(slide.path)
    with open_case(path, slide, reviewer="ada") as case:
        assert case.notes == ""
        case.set_notes("Few endocervical cells.\nÄ second line.")
    with open_case(path, slide, reviewer="grace") as case:
        assert case.notes == "Few endocervical cells.\nÄ second line."
        case.set_notes("Many.")
        case.set_notes("Many.")
        assert case.notes == "Many."
        assert not case.can_undo  # notes are no verdicts
    with sqlite3.connect(path) as connection:
        ((versions,),) = connection.execute("SELECT value FROM meta WHERE key = 'notes'").fetchall()
    assert [(who, text) for _, who, text in json.loads(versions)] == [
        ("ada", "Few endocervical cells.\nÄ second line."),
        ("grace", "Many."),
    ]


def test_two_windows_that_note_at_the_same_time_lose_nothing(slide, tmp_path: Path) -> None:
    path = default_case_path(slide.path)
    texts = {who: [f"{who} {i}" for i in range(20)] for who in ("ada", "grace")}
    with open_case(path, slide, reviewer="ada") as one, open_case(path, slide, reviewer="grace") as other:

        def write(case) -> None:
            for text in texts[case.reviewer]:
                case.set_notes(text)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(write, (one, other)))
    with sqlite3.connect(path) as connection:
        ((versions,),) = connection.execute("SELECT value FROM meta WHERE key = 'notes'").fetchall()
    for who, written in texts.items():
        assert [text for _, writer, text in json.loads(versions) if writer == who] == written

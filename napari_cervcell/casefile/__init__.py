"""What we know of a slide, in one file: detections, verdicts, checked regions, rounds of learning."""

from .case import SUFFIX, Case, SlideLike, default_case_path, open_case
from .casebook import note_place, place_of
from .events import Annotations, Event, State, Verdict
from .exchange import export_case, import_cells
from .matching import Match, Present, match, present_cells
from .rounds import Round, RoundState
from .scans import Detections, Looks, Run, RunState
from .store import CaseError

__all__ = [
    "SUFFIX",
    "Annotations",
    "Case",
    "CaseError",
    "Detections",
    "Event",
    "Looks",
    "Match",
    "Present",
    "Round",
    "RoundState",
    "Run",
    "RunState",
    "SlideLike",
    "State",
    "Verdict",
    "default_case_path",
    "export_case",
    "import_cells",
    "match",
    "note_place",
    "open_case",
    "place_of",
    "present_cells",
]

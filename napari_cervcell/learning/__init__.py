"""Learning from corrections: losses, targets, the trainer and its process, evaluation.

Names are brought in when they are first asked for: the trainer's process is seen from a window, which has no use for
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluation import evaluate
    from .fields import DataError, Field, read_fields, split_names
    from .known import RoundError, held_back
    from .process import TrainingProcess
    from .rounds import current_model, train_round

__all__ = [
    "DataError",
    "Field",
    "RoundError",
    "TrainingProcess",
    "current_model",
    "evaluate",
    "held_back",
    "read_fields",
    "split_names",
    "train_round",
]

_MODULES = {
    "evaluate": "evaluation",
    "TrainingProcess": "process",
    **dict.fromkeys(("DataError", "Field", "read_fields", "split_names"), "fields"),
    **dict.fromkeys(("RoundError", "held_back"), "known"),
    **dict.fromkeys(("current_model", "train_round"), "rounds"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)

"""Learning from corrections: losses, targets, the trainer and its process, evaluation."""

from .evaluation import evaluate
from .fields import DataError, Field, read_fields, split_names
from .process import TrainingProcess
from .rounds import RoundError, current_model, held_back, train_round

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

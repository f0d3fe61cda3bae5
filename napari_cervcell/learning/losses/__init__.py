"""Losses for sparse and long-tailed labels, and their rivals."""

from .balance import GradientBalance, gradient_balance
from .exclusive import Schedule, exclusive_cross_entropy, exclusive_cross_entropy_multiclass
from .grad_libra import grad_libra, gradient_weight, pull_at_half
from .longtail import BalancedSoftmax, EQLv2, EqualizedFocal, Seesaw
from .named import KNOWN_RULES, UNKNOWN_RULES, NamedLoss, named_loss
from .rivals import background_recalibration, cross_entropy, focal

__all__ = [
    "KNOWN_RULES",
    "UNKNOWN_RULES",
    "BalancedSoftmax",
    "EQLv2",
    "EqualizedFocal",
    "GradientBalance",
    "NamedLoss",
    "Schedule",
    "Seesaw",
    "background_recalibration",
    "cross_entropy",
    "exclusive_cross_entropy",
    "exclusive_cross_entropy_multiclass",
    "focal",
    "grad_libra",
    "gradient_balance",
    "gradient_weight",
    "named_loss",
    "pull_at_half",
]

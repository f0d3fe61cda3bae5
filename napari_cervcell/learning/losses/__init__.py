"""Losses for sparse and long-tailed labels."""

from .exclusive import Schedule, exclusive_cross_entropy, exclusive_cross_entropy_multiclass
from .grad_libra import grad_libra, gradient_balance, gradient_weight

__all__ = [
    "Schedule",
    "exclusive_cross_entropy",
    "exclusive_cross_entropy_multiclass",
    "grad_libra",
    "gradient_balance",
    "gradient_weight",
]

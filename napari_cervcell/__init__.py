"""Review cervical cytology slides in napari with a detector that learns from the reviewer's corrections."""

__version__ = "0.1.0"

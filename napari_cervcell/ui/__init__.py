"""The window: napari widgets that are thin views on a review session. The only room that knows Qt and napari."""

.PHONY: demo test check

demo: ## set up and open the sample slide; without a display, do a scripted sitting on it
	@scripts/setup all
	@.venv/bin/cervcell demo

test: ## set up and run the tests, the window's with both Qt bindings
	@scripts/setup all,dev
	QT_API=pyqt5 PYTEST_QT_API=pyqt5 .venv/bin/pytest
	QT_API=pyqt6 PYTEST_QT_API=pyqt6 .venv/bin/pytest tests/gui

check: ## what the code must also hold: style, types, manifest
	@scripts/setup all,dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/npe2 validate napari_cervcell/napari.yaml

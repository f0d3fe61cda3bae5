.PHONY: demo test check

# two at a time, each on a display and a core of its own
PYTEST = OMP_NUM_THREADS=1 .venv/bin/pytest -n 2 --dist worksteal

demo: ## set up and open the sample slide; without a display, do a scripted sitting on it
	@scripts/setup all
	@.venv/bin/cervcell demo

test: ## set up and run the tests, the window's with both Qt bindings but for those that wait for a model
	@scripts/setup all,dev
	QT_API=pyqt5 PYTEST_QT_API=pyqt5 $(PYTEST)
	QT_API=pyqt6 PYTEST_QT_API=pyqt6 $(PYTEST) tests/gui -m "not engine"

check: ## what the code must also hold: style, types, manifest
	@scripts/setup all,dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/npe2 validate napari_cervcell/napari.yaml

.PHONY: demo test check

# three at a time, each on a display of its own: also on two cores, for a window's tests wait now and then
PYTEST = OMP_NUM_THREADS=1 .venv/bin/pytest -n 3 --dist worksteal
# of the window's tests those in which keys, mouse, dialogs and painting, where Qt's bindings differ, have most part
WINDOW = $(patsubst %,tests/gui/test_%.py,opening review selecting review_bar keys gallery rough_hands)

demo: ## set up and open the sample slide; without a display, do a scripted sitting on it
	@scripts/setup all
	@.venv/bin/cervcell demo

test: ## set up and run the tests, with Qt 6 too those in which it has most part
	@scripts/setup all,dev
	QT_API=pyqt5 PYTEST_QT_API=pyqt5 $(PYTEST)
	QT_API=pyqt6 PYTEST_QT_API=pyqt6 $(PYTEST) $(WINDOW) -m "not engine"

check: ## what the code must also hold: style, types, manifest
	@scripts/setup all,dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/npe2 validate napari_cervcell/napari.yaml

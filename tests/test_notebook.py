"""The notebook of examples/ runs from its first cell to its last, in a process and a folder of its own."""

import json
import re
from pathlib import Path

import pytest

import innerloop

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples/tour.ipynb"
CORE_SECONDS = 40  # of one core, for all cells


def cells(kind):
    return ["".join(c["source"]) for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == kind]


def test_it_holds_no_output_and_no_private_name():
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    code = "\n".join(cells("code"))
    compile(code, NOTEBOOK.name, "exec")
    names = re.findall(r"\binnerloop\.([A-Za-z_]+)\(", code)
    assert {"fit", "open_run", "evaluate", "open_solver", "think"} <= set(names) <= set(innerloop.__all__)
    reference = "\n".join(p.read_text() for p in (ROOT / "docs/reference").glob("*.md"))
    for module, name in re.findall(r"from (innerloop[\w.]*) import (\w+)", code):
        whole = re.search(rf"::: {re.escape(module)}$", reference, re.M)
        assert whole or f"{module}.{name}" in reference, f"{module}.{name} is no public name"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # jupyter's own
def test_every_cell_runs_in_order(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the notebook's test needs innerloop[dev]")
    nbformat = pytest.importorskip("nbformat")
    home = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")}
    for name, value in home.items():
        monkeypatch.setenv(name, value)
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    clock = "import time; print(time.process_time())"
    book.cells.append(nbformat.v4.new_code_cell(clock))
    nbclient.NotebookClient(book, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    printed = ["".join(o.text for o in cell.outputs if o.output_type == "stream") for cell in code]
    assert float(printed[-1]) < CORE_SECONDS
    shares = [float(share) for share in re.findall(r"steps: +([\d.]+)% solved", printed[1])]
    assert len(shares) == 7 and shares[0] + 10 < shares[-1] >= 95, "deeper is better, as the text says"
    assert "valid after" in printed[2] and "I don't know" in printed[3]
    drawn = [output.data for cell in code for output in cell.outputs if output.output_type == "display_data"]
    assert any("image/png" in data for data in drawn) and (tmp_path / "runs/tour/tour.png").stat().st_size > 5000
    assert {p.name for p in tmp_path.iterdir()} <= {"runs", "ipython"}

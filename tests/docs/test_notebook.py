"""The notebook runs from its first to its last cell."""

import pathlib
import shutil

import pytest

NOTEBOOK = pathlib.Path(__file__).parent.parent.parent / "docs/notebooks"


def test_the_notebook_is_committed_without_outputs():
    import json

    cells = json.loads((NOTEBOOK / "from_video_to_report.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    for cell in code:
        compile("".join(cell["source"]), "notebook", "exec")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} of the extra docs is missing")
    import nbformat
    from nbclient import NotebookClient

    shutil.copy(NOTEBOOK / "from_video_to_report.ipynb", tmp_path)
    notebook = nbformat.read(tmp_path / "from_video_to_report.ipynb", as_version=4)
    options = {"resources": {"metadata": {"path": str(tmp_path)}}, "timeout": 900}
    NotebookClient(notebook, **options).execute()
    page = (tmp_path / "out/report.html").read_text()
    assert "<video" in page or "data:video" in page

"""The code in the README and in the documentation runs, and prints what it says it prints."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "```python" in page.read_text()
]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
# Pages that take longest.
LONG = {
    *("arviz.md", "centers.md", "coming_from.md", "evidence.md", "in_a_pipeline.md", "l2.md"),
    *("many_machines.md", "many_rows.md", "methods.md"),
    *("inside_numpyro.md", "posterior.md", "start.md", "strength.md", "when_it_goes_wrong.md"),
    *("study.md", "your_own_network.md"),
}
BLOCK = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?")


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page.name in LONG)) for page in PAGES],
    ids=lambda page: page.name,
)
def test_code_of_the_page_runs_and_prints_what_follows_it(page, monkeypatch, tmp_path):
    for table in page.parent.glob("*.csv"):
        shutil.copy(table, tmp_path)
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "page"}
    printed = ""
    for kind, text in BLOCK.findall(page.read_text()):
        if kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(text, page.name, "exec"), namespace)
            printed = output.getvalue()
        else:
            assert skeleton(printed) == skeleton(text)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.name)
def test_a_notebook_holds_no_outputs_and_is_listed(notebook):
    document = json.loads(notebook.read_text())
    cells = document["cells"]
    assert document["metadata"]["kernelspec"]["name"] == "python3"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert len({cell["id"] for cell in cells}) == len(cells)
    listed = (ROOT / "docs" / "index.md").read_text().splitlines()
    assert f"notebooks/{notebook.stem}" in listed


# The documentation's build runs them too, but not again where only the package has changed.
@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.name)
def test_code_of_the_notebook_runs(notebook, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    namespace: dict = {"__name__": "page"}
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), namespace)
    plt.close("all")


def test_readme_says_the_essential_in_its_first_40_lines():
    start = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])
    for essential in (
        "Why does penalising",
        "pip install",
        "import weightprior",
        "```text",
        "not a",
    ):
        assert essential in start
    script = next(text for kind, text in BLOCK.findall(start) if kind == "python")
    assert len(script.splitlines()) <= 20


def skeleton(text: str) -> list[str]:
    """Words of an output; of its numbers, which depend on the machine, only their places."""
    return NUMBER.sub("#", text).split()

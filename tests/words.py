"""Count words of the documentation and slow beginnings of sentences: run it to read the figures.

    python tests/words.py

Words are those of prose and tables, notebooks included; code and what it prints are not counted.
`test_words.py` holds the documentation to the figures.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAX_WORDS, MAX_SHARE = 16_000, 0.02
# Beginnings that keep a reader waiting for the verb.
SLOW = ("What", "Where", "Whether", "How", "Of")


def words() -> dict[str, int]:
    """Words of every page of the documentation."""
    docs = ROOT / "docs"
    texts = {page: page.read_text() for page in sorted(docs.glob("*.md"))}
    texts |= {page: _markdown(page) for page in sorted(docs.glob("notebooks/*.ipynb"))}
    return {page.name: len(_words(text)) for page, text in texts.items()}


def _markdown(notebook: Path) -> str:
    cells = json.loads(notebook.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def _words(text: str) -> list[str]:
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [word for word in prose.split() if re.search(r"\w", word)]


def beginnings() -> list[str]:
    """First word of every sentence of the package's docstrings."""
    return [sentence.split()[0] for text in _docstrings() for sentence in _sentences(text)]


def share() -> float:
    """Share of sentences with a beginning that is slow to read."""
    found = beginnings()
    return sum(word in SLOW for word in found) / len(found)


def _docstrings() -> Iterator[str]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, documented) and (text := ast.get_docstring(node)):
                yield text


def _sentences(text: str) -> Iterator[str]:
    prose = re.sub(r"^\s*(>>>|\.\.\.).*$", "", text, flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n|\n\s*- ", prose):
        for sentence in re.split(r"(?<=[.:;])\s+(?=[A-Z])", " ".join(paragraph.split())):
            if sentence and sentence[0].isalpha():
                yield sentence


if __name__ == "__main__":
    for page, count in words().items():
        print(f"{page:26}{count:6,}")
    print(f"{'in all':26}{sum(words().values()):6,} of {MAX_WORDS:,} at most")
    slow = ", ".join(SLOW)
    print(f"sentences of docstrings that begin with {slow}: {share():.1%} of {len(beginnings()):,}")

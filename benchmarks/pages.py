"""Tables of the documentation, filled by the benchmarks that measure them."""

from pathlib import Path

__all__ = ["fill"]

DOCS = Path(__file__).parent.parent / "docs"


def fill(page: str, name: str, rows: dict[str, list[str]]) -> None:
    """Replace rows of a table, which stands below the comment ``<!-- name -->``.

    Parameters
    ----------
    page : str
        Name of the page, without ``.md``.
    name : str
        Of the table.
    rows : dict of str to list of str
        By their first cell, the others. Rows that are not named stay as they are.

    Raises
    ------
    ValueError
        Where the page has no such table, or the table no such row.
    """
    path = DOCS / f"{page}.md"
    before, marker, rest = path.read_text().partition(f"<!-- {name} -->\n")
    table, gap, after = rest.lstrip("\n").partition("\n\n")
    if not marker:
        raise ValueError(f"{path.name}: expected the comment <!-- {name} --> above a table.")
    lines = table.split("\n")
    places = {line.split("|")[1].strip(): i for i, line in enumerate(lines)}
    if unknown := set(rows) - set(places):
        raise ValueError(f"{path.name}, {name}: expected rows {list(places)}; got {unknown}.")
    for first, cells in rows.items():
        lines[places[first]] = "| " + " | ".join([first, *cells]) + " |"
    path.write_text(before + marker + "\n" + "\n".join(lines) + gap + after)

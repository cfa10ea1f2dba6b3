"""Measure the structure of the package, as its contracts do not: run it to read the figures.

    python tests/house.py

`test_house.py` holds the package to them.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent / "src" / "weightprior"
MAX_ENTRIES, MAX_CHAIN, MAX_LINES, MAX_LONG_FILES = 14, 9, 300, 3
# Parts that say themselves what others need to know, and the files that own them.
PARTS = {
    "Prior": ("model/priors/",),
    "NormalPrior": ("model/priors/",),
    "HierarchicalPrior": ("model/priors/",),
    "Likelihood": ("model/likelihoods/",),
    "Gaussian": ("model/likelihoods/",),
    "StudentT": ("model/likelihoods/",),
    "HeteroscedasticGaussian": ("model/likelihoods/",),
    "Bernoulli": ("model/likelihoods/",),
    "Categorical": ("model/likelihoods/",),
    "Poisson": ("model/likelihoods/",),
    "NegativeBinomial": ("model/likelihoods/",),
    "Binomial": ("model/likelihoods/",),
    "Network": ("model/network.py", "model/linearised.py"),
    "MLP": ("model/mlp.py",),
}
SITES = {
    "output.weight": ("model/mlp.py",),
    "output.bias": ("model/mlp.py",),
    "log_noise": ("model/likelihoods/_scaled.py",),
    "log_df": ("model/likelihoods/student_t.py",),
    "log_concentration": ("model/likelihoods/negative_binomial.py",),
}
METHODS = {"map", "hmc", "nuts", "mclmc", "laplace", "vi", "tempered", "ensemble"}


@cache
def modules() -> dict[str, ast.Module]:
    """Syntax trees by path in the package."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in paths}


def entries() -> list[str]:
    """Names at the top of the package, without its own files."""
    names = (path.name for path in PACKAGE.iterdir())
    return sorted(name for name in names if not name.startswith("__") and name != "py.typed")


def _dotted(path: str) -> str:
    parts = ("weightprior", *Path(path).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


@cache
def imports() -> dict[str, set[str]]:
    """Modules that each module imports from, type checking included."""
    names = {_dotted(path): tree for path, tree in modules().items()}
    found: dict[str, set[str]] = {}
    for name, tree in names.items():
        froms = [
            node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
        ]
        targets = {
            candidate if candidate in names else node.module
            for node in froms
            for alias in node.names
            if (candidate := f"{node.module}.{alias.name}")
        }
        found[name] = {t for t in targets if t in names and t not in (name, "weightprior")}
    return found


@cache
def longest_chain(start: str) -> tuple[str, ...]:
    """Longest chain of imports that begins at a module; endless where there is a circle."""
    chains = [longest_chain(target) for target in imports()[start]]
    return (start, *max(chains, key=len, default=()))


def chain() -> tuple[str, ...]:
    """Longest chain of imports."""
    return max((longest_chain(name) for name in imports()), key=len)


def circles() -> list[str]:
    """Modules that import themselves by way of others."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for target in imports()[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        return seen

    return [name for name in imports() if name in reachable(name)]


def long_files() -> dict[str, int]:
    """Files with more lines than they should have."""
    lines = {path: len((PACKAGE / path).read_text().splitlines()) for path in modules()}
    return {path: count for path, count in lines.items() if count > MAX_LINES}


def _nodes(kind: type) -> Iterator[tuple[str, Any]]:
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield path, node


def told_by_type() -> list[str]:
    """Checks of a part's type outside the files that own it."""
    found = []
    for path, node in _nodes(ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
            names = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
            names |= {n.attr for n in ast.walk(node.args[1]) if isinstance(n, ast.Attribute)}
            found += [
                f"{path}:{node.lineno} {name}"
                for name in sorted(names & set(PARTS))
                if not path.startswith(PARTS[name])
            ]
    return found


def _reads_method(node: ast.AST) -> bool:
    """Tell whether an expression reads the attribute that names a fit's method."""
    for inner in ast.walk(node):
        given = inner.slice if isinstance(inner, ast.Subscript) else None
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
            given = inner.args[0] if inner.func.attr == "get" and inner.args else None
        if isinstance(given, ast.Constant) and given.value == "method":
            return True
    return False


def told_by_method() -> list[str]:
    """Comparisons with the name of a method, and tables that are looked up by it."""
    found = []
    for path, node in _nodes(ast.Compare):
        sides = [node.left, *node.comparators]
        words = {n.value for s in sides for n in ast.walk(s) if isinstance(n, ast.Constant)}
        if words & METHODS or any(_reads_method(side) for side in sides):
            found.append(f"{path}:{node.lineno}")
    for path, node in _nodes(ast.Subscript):
        if _reads_method(node.slice):
            found.append(f"{path}:{node.lineno}")
    return found


def told_by_site() -> list[str]:
    """Names of sites and of derived variables outside the files that own them, docs apart."""
    found = []
    for path, node in _nodes(ast.Constant):
        owners = SITES.get(node.value) if isinstance(node.value, str) else None
        if owners and not path.startswith(owners):
            found.append(f"{path}:{node.lineno} {node.value}")
    return found


def main() -> None:
    """Print every figure, and what stands behind those that are not zero."""
    print(f"entries at the top: {len(entries())} ({', '.join(entries())})")
    print(f"longest chain of imports: {len(chain())} ({' > '.join(chain())})")
    print(f"circles: {len(circles())}")
    print(f"files over {MAX_LINES} lines: {long_files()}")
    print(f"parts told by their type from outside: {told_by_type()}")
    print(f"fits told by the name of their method: {told_by_method()}")
    print(f"names of sites outside the part that owns them: {told_by_site()}")


if __name__ == "__main__":
    main()

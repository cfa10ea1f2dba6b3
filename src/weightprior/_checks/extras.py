"""Extras of the package: which of them has to be installed for what was asked."""

from collections.abc import Callable
from functools import wraps

__all__ = ["needs_extra"]


def needs_extra[Answer](
    load: Callable[[str], Answer], extra: str, modules: tuple[str, ...]
) -> Callable[[str], Answer]:
    """Let a lazy module say what has to be installed where a module of an extra is missing.

    Parameters
    ----------
    load : callable
        A module's ``__getattr__``.
    extra : str
        Name of the extra, which is that of the module in this package.
    modules : tuple of str
        Modules that the extra brings along.
    """

    @wraps(load)
    def loaded(name: str) -> Answer:
        try:
            return load(name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in modules:
                raise
            raise ImportError(
                f"weightprior.{extra}: expected {missing}; got none installed. "
                f"Install the extra: pip install 'weightprior[{extra}]'.",
                name=missing,
            ) from error

    return loaded

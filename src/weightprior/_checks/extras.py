"""Extras of the package: which one must be installed for a module."""

from collections.abc import Callable
from functools import wraps

__all__ = ["needs_extra"]


def needs_extra[Answer](
    load: Callable[[str], Answer], extra: str, modules: tuple[str, ...]
) -> Callable[[str], Answer]:
    """Make a lazy module say what to install if a module of an extra is missing.

    Parameters
    ----------
    load : callable
        A module's ``__getattr__``.
    extra : str
        Name of the extra, and of the module in this package.
    modules : tuple of str
        Modules that the extra installs.
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

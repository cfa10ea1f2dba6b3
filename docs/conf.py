import re
from importlib.metadata import version as installed_version

project = "weightprior"
author = "The weightprior developers"
copyright = f"2026, {author}"
release = version = installed_version("weightprior")

extensions = [
    "myst_nb",  # with myst_parser
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.extlinks",
]
# What scripts have written, for pages to include.
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "posterior/*.md", "study/*.md"]
templates_path = ["_templates"]
nitpicky = False  # without other projects' inventories their types cannot be resolved

extlinks = {"doi": ("https://doi.org/%s", "doi:%s")}

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Notebooks hold no outputs and run whenever their page is built; pages in Markdown do not.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 300  # seconds for a cell
nb_execution_in_temp = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress, and what a machine tells of itself

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections name the types
# The class template lists members already, once.
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_sidebars = {"**": ["pages"]}
html_title = project
# The side bar has the pages.
html_theme_options = {"show_toc_level": 2, "navbar_center": []}
html_static_path = ["_static"]
html_css_files = ["pages.css"]


def setup(app):
    # After numpydoc, whose sections it is to find done.
    app.connect("autodoc-process-docstring", keep_initials, priority=900)
    app.connect("autodoc-skip-member", skip_foreign)


def keep_initials(app, what, name, obj, options, lines):
    """Leave an author's initial at the beginning of a line as text: it does not begin a list."""
    lines[:] = [re.sub(r"^(\s*)([A-Z])\. ", r"\1\\\2. ", line) for line in lines]


def skip_foreign(app, what, name, obj, skip, options):
    """Leave out defaults of fields that are functions of other libraries."""
    module = getattr(obj, "__module__", None) or "weightprior"
    return True if not module.startswith("weightprior") else None

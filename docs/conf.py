# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Settings of the documentation.

The build needs no network. Links into the documentation of other packages are made when the
environment variable MUSE_IMPHOT_DOCS_INTERSPHINX is set; only then are unresolved references
reported, because most of them lead there.
"""

import os
import sys
from importlib import metadata
from pathlib import Path

from sphinx_astropy.conf.v3 import *
from sphinx_astropy.conf.v3 import exclude_patterns, extensions, intersphinx_mapping, rst_epilog

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "muse_imphot"
author = "The muse_imphot developers"
copyright = "2026, The muse_imphot developers"
release = metadata.version(project)
version = ".".join(release.split(".")[:2])

extensions += ["registries"]
exclude_patterns += ["_ext", "_static"]
rst_epilog += """
.. |fwhm| replace:: full width at half maximum
"""

if os.environ.get("MUSE_IMPHOT_DOCS_INTERSPHINX"):
    nitpicky = True
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "astropy": ("https://docs.astropy.org/en/stable/", None),
        "synphot": ("https://synphot.readthedocs.io/en/latest/", None),
        "specutils": ("https://specutils.readthedocs.io/en/stable/", None),
    }
else:
    intersphinx_mapping = {}

# The program that draws inheritance diagrams may be absent, and there is little to inherit.
automodapi_inheritance_diagram = False
automodsumm_inherited_members = False

# The theme of sphinx-astropy has the menus of Astropy, and reports every reader to its counter. The
# one that it is built on asks for neither.
html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "logo": {"text": project},
    "header_links_before_dropdown": 5,
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "show_toc_level": 2,
}
html_context = {"default_mode": "auto"}
# Pages without others below them have nothing to list in a column of their own.
_SINGLE = ("getting_started", "accuracy", "imphot_users", "changelog", "contributing")
html_sidebars = {page: [] for page in ("index", "acknowledgements", *_SINGLE)}
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]  # the help of the commands is 100 characters wide
htmlhelp_basename = project

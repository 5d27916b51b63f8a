"""Settings of Sphinx."""

from qnp_xp import __version__

project = "qnp_xp"
author = "The qnp_xp developers"
copyright = "2026, the qnp_xp developers"
release = version = __version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"qnp_xp {version}"
myst_enable_extensions = ["dollarmath", "fieldlist"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"

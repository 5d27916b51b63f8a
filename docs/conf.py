"""Settings of Sphinx."""

from qnp_xp import __version__

project = "qnp_xp"
author = "The qnp_xp developers"
copyright = "2026, the qnp_xp developers"
release = version = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_argparse_cli",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints", "jupyter_execute"]
html_theme = "furo"
html_title = f"qnp_xp {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["fieldlist"]
myst_heading_anchors = 3

# The notebook holds its outputs, and tests/docs runs it and compares them.
nb_execution_mode = "off"
nb_merge_streams = True

# A button for what a reader types, and none for what is printed.
copybutton_selector = ", ".join(
    f"div.highlight-{language} pre"
    for language in ("bash", "python", "ipython3", "default")
)
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

numpydoc_show_class_members = False
# Public names: each parameter with its type, what is returned, and an example.
numpydoc_validation_checks = {"EX01", "GL08", "PR01", "PR02", "PR04", "RT01", "YD01"}
# Classes list their attributes, and names for extensions need a sentence.
numpydoc_validation_exclude = {
    r"\.errors\.",
    r"\.(Decoded|Grid|Panels|QuasarNP|ResultTable|Status|Validation)",
    r"\.(lines|selection|status)\.",
    r"\.io\.(desi|memory|open|sdss|source)\.",
    r"\.(cli\.main|weights\.weights_path)$",
}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
python_use_unqualified_type_names = True

# The build has no network to look numpy's own pages up in.
nitpick_ignore = [("py:class", "numpy.ndarray")]

"""The site: course map, lessons with their saved outputs, and the library's reference. Built by `make docs`."""

import importlib.util
import inspect
import re
import sys
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
from address import address, settings  # noqa: E402

import text_recognizer.training.run_experiment  # noqa: E402, F401

values, web = settings(ROOT), address(ROOT)
project, author, copyright = values["title"], values["author"], values["copyright"]
release = values["version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.linkcode"]
nb_execution_mode = "off"  # the pages show what the committed notebooks show
nb_merge_streams = True
nb_ipywidgets_js = {}  # no script from a distant server: a page shows the still image of a widget
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_update_mathjax = False
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
add_module_names = False  # a page is about one module, and long names do not fit a phone
default_role = "code"  # the docstrings quote names as Markdown does
# Mathematics without a network: MathJax 2 as the pip package carries it.
MATHJAX = Path(importlib.util.find_spec("jupyter_server_mathjax").origin).parent / "static"
mathjax_path = "mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full"
# The package has one family of fonts.
mathjax2_config = {"HTML-CSS": {"availableFonts": [], "preferredFont": None, "webFont": "STIX-Web", "imageFont": None},
                   "SVG": {"font": "STIX-Web"}, "showMathMenu": False, "messageStyle": "none",
                   "tex2jax": {"inlineMath": [["\\(", "\\)"]], "displayMath": [["\\[", "\\]"]],
                               "processClass": "tex2jax_process|mathjax_process|math|output_area",
                               "ignoreClass": "tex2jax_ignore|mathjax_ignore|document"}}

html_theme = "sphinx_book_theme"
html_title = values["title"]
html_static_path = [str(ROOT / "docs" / "_build" / "stage" / "_static")]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}  # light or dark as the reader's system has it
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"home_page_in_toc": False, "collapse_navbar": True, "max_navbar_depth": 2, "show_navbar_depth": 1,
                      "use_download_button": False, "use_fullscreen_button": False, "show_toc_level": 2, "navbar_persistent": []}
if web:
    html_theme_options |= {"repository_url": web, "use_repository_button": True, "path_to_docs": "nbs",
                           "repository_branch": values["branch"]}


def linkcode_resolve(domain: str, info: dict) -> str | None:
    """Where a name's source is: in the repository, or, while its address is unset, the page of the notebook that makes it."""
    module = sys.modules.get(info.get("module", ""))
    thing = module
    for part in info.get("fullname", "").split("."):
        thing = getattr(thing, part, None)
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(thing))
        path = Path(inspect.getsourcefile(thing))
        path.relative_to(ROOT)
    except (TypeError, ValueError, OSError):
        return None  # a constant has no source lines to show
    if web: return f"{web}/blob/{values['branch']}/{path.relative_to(ROOT).as_posix()}#L{first}-L{first + len(lines) - 1}"
    made_in = re.search(r"File to edit: (?:\.\./)*nbs/(.+)\.ipynb", path.read_text(encoding="utf-8"))
    line = next((line.strip() for line in lines if re.match(r"\s*(def|class) ", line)), "").split("(")[0].rstrip(":")
    return f"../{made_in[1]}.html#:~:text={quote(line)}" if made_in else None  # browsers scroll to that text

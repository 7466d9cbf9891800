"""Sphinx over the repository: pages of docs/, the cards of methods and models, CONTRIBUTING and the change log.

The source folder is the root of the repository, so that a relative link means the same here and in the repository's own
view: `sphinx-build -c docs . docs/_build/html`, which is what `make docs` runs. Nothing is fetched.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vidcompress import __version__  # noqa: E402
from vidcompress.methods.card import Card, read_card  # noqa: E402

project = "vidcompress"
release = version = __version__
copyright = "the authors of vidcompress; Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "configs/README.md",
    "models/*/README.md",
    "vidcompress/methods/cards/*.md",
]
exclude_patterns = [".*", "**/__pycache__", "build", "dist", "docs/_build", "docs/conf.py", "runs"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# Docstrings are in Google's style with single backticks round code. A name of this package in a signature must have a
# page; names of other packages, type variables and shapes in parentheses, such as `(row, D)`, have none here.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!vidcompress\.).*"),
    (r"py:class", r"vidcompress\.[\w.]+\.([A-Z]|StreamingClip|Writing)"),
]
suppress_warnings = ["ref.python"]  # more than one `dtype`
autodoc_member_order = "bysource"
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Class attributes", "Attributes")]

html_theme = "furo"
html_title = "vidcompress"
html_extra_path = ["_site"]
html_copy_source = False
html_show_sphinx = False

# -- cards, docstrings and names ---------------------------------------------------------------------------------------


def setup(app: Any) -> None:
    """Connect what is done to cards, to docstrings and to names."""
    app.connect("source-read", card_page)
    app.connect("autodoc-process-docstring", house_docstring, priority=400)  # before napoleon's 500
    app.connect("missing-reference", public_name)


def card_page(app: Any, docname: str, source: list[str]) -> None:
    """Replace the TOML head of a method card by a list of what it states."""
    folder, _, name = docname.rpartition("/")
    if folder == "vidcompress/methods/cards":
        card = read_card(name)
        if card is None:
            raise FileNotFoundError(f"no card for {name}")
        source[0] = with_facts(card)


def with_facts(card: Card) -> str:
    """The text of a card, and what its head states: use, paper, code, evidence, options."""
    options = ", ".join(f"`{option}={value!r}`" for option, value in card.defaults.items())
    facts = {
        "Name": f"`{card.name}`",
        "Serves": " and ".join({"image": "images", "video": "videos"}[kind] for kind in card.modalities),
        "Paper": card.paper,
        "Code": card.code,
        "Needs": card.needs,
        "Options": options,
    }
    lines = [f"- **{label}:** {fact}" for label, fact in facts.items() if fact]
    return "\n".join([card.text.rstrip(), "", "## In short", "", card.effect, "", *lines, ""])


def house_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Spell out for napoleon what it would misread in a docstring.

    `The model: its layers.` at the beginning of a property or of what is returned is prose; napoleon takes what stands
    before a colon for a type, which here begins with a bracket, as in `(row, D) int64: ...`. Attributes that share a
    line, `a, b: ...`, are given a line each.
    """
    section, spelled = "property" if what == "property" else "", []
    for line in lines:
        shared = re.match(r"(\s+)((?:\w+, )+)(?=\w+: )", line)
        if section in ("property", "Returns:", "Yields:"):
            spelled.append(re.sub(r"^(\s*[A-Z`][^:]*): ", "\\1 \N{EN DASH} ", line))
            section = ""
        elif section in ("Attributes:", "Class attributes:") and shared:
            last = line[shared.end() :].partition(":")[0]
            spelled += [f"{shared[1]}{one}: as `{last}`." for one in shared[2].rstrip(", ").split(", ")]
            spelled.append(shared[1] + line[shared.end() :])
        else:
            spelled.append(line)
        if line.strip() in ("Attributes:", "Class attributes:", "Returns:", "Yields:"):
            section = line.strip()
        elif line and not line.startswith(" "):
            section = ""
    lines[:] = spelled


def public_name(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Resolve `Layout` and `vidcompress.core.layout.Layout` to the page that documents `vidcompress.Layout`."""
    if node.get("refdomain") != "py":
        return None
    domain, last = env.get_domain("py"), node["reftarget"].rpartition(".")[2]
    homes = [
        name
        for name in domain.objects
        if name.rpartition(".")[2] == last and not domain.objects[name].aliased
    ]
    if len(homes) != 1:
        return None
    entry = domain.objects[homes[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, homes[0])

"""Check a built site: all its files and anchors that are linked to are there, and no page fetches from outside.

python scripts/check_site.py docs/_build/html
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Links, what the page loads, and anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down what one tag refers to and what it can be referred to by."""
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given or (tag == "link" and given.get("rel") in ("stylesheet", "icon")):
            self.loads.append(given.get("src") or given["href"])


@cache
def _read(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


def dead(site: Path) -> list[str]:
    """What is wrong with a site, a line per link: page, target, reason."""
    found, site = [], site.resolve()
    for path in sorted(site.rglob("*.html")):
        page = _read(path)
        for target in dict.fromkeys((*page.links, *page.loads)):
            place, where = urlsplit(target), path.relative_to(site)
            if place.scheme or place.netloc:
                if target in page.loads and place.scheme != "data":
                    found.append(f"{where}: {target}: fetched from outside")
                continue
            file = (path.parent / unquote(place.path)).resolve() if place.path else path
            if site not in file.parents or not file.is_file():
                found.append(f"{where}: {target}: no such file")
            elif file.suffix == ".html" and unquote(place.fragment) not in _read(file).anchors:
                found.append(f"{where}: {target}: no such anchor")
    return found


def main() -> None:
    """Check the site that is named, and list what is dead."""
    problems = dead(Path(sys.argv[1]))
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()

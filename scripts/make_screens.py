"""Pictures of pages for the documents, taken with Debian's chromium: docs/pictures/viewer.png.

    python scripts/make_screens.py [--only viewer] [--out docs/pictures]

A page is a function that writes an HTML file and a function that brings it into the state to show.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND")


@dataclass(frozen=True)
class Screen:
    """Screen: a page and its state.

    Attributes:
        write: writes the page to a file.
        act: brings the opened page, of playwright, into the state to show.
        width, height: of the window, in pixels; the picture is as high as the page.
    """

    write: Callable[[Path], None]
    act: Callable[[Any], None]
    width: int = 1200
    height: int = 700


def write_comparison(path: Path) -> None:
    """Write the page of a comparison about the example picture."""
    from vidcompress import VisualQA

    qa = VisualQA.from_pretrained(device="cpu")
    compared = qa.compare(
        "what digit is shown?",
        image=str(ROOT / "examples" / "scene.png"),
        methods="globalcom2,census",
        retention_ratios=[0.25, 0.1],
    )
    path.write_text(compared.html(), encoding="utf-8")


def choose_tenth(page: Any) -> None:
    """Choose globalcom2 at a tenth of the tokens."""
    page.locator(".kept-viewer[data-ready]").wait_for()
    page.locator("input.rows").fill("2")


SCREENS = {"viewer": Screen(write_comparison, choose_tenth)}


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*SCREENS], action="append", help="a page; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    arguments = parser.parse_args()
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        sys.exit("make_screens: needs a browser: apt-get install chromium")
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        for name in arguments.only or SCREENS:
            screen, path = SCREENS[name], Path(folder) / f"{name}.html"
            screen.write(path)
            page = browser.new_page(viewport={"width": screen.width, "height": screen.height})
            page.goto(path.as_uri())
            screen.act(page)
            target = arguments.out / f"{name}.png"
            page.evaluate("document.activeElement.blur()")
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
            picture.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
            print(f"wrote {target}, {target.stat().st_size / 1000:.0f} KB")
        browser.close()


if __name__ == "__main__":
    main()

"""Pictures of pages for the documents, taken with Debian's chromium: the viewer, the page of results, the app.

    python scripts/make_screens.py [--only viewer] [--out docs/pictures]

Needs gradio, playwright and a chromium, as the tests do (`pip install '.[app,dev]'`). The embedded model answers.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from vidcompress import VisualQA
from vidcompress.cli.library_output import quiet
from vidcompress.tools.app.server import running_app

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
COLORS = 128
MOST_BYTES = 160_000


@dataclass
class Studio:
    """Studio: the folder that pages are written to, the model, and the app.

    Attributes:
        folder: for files of this run.
        open: contexts that end with the run.
    """

    folder: Path
    open: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def qa(self) -> VisualQA:
        """The embedded model."""
        return VisualQA.from_pretrained(device="cpu")

    @cached_property
    def app(self) -> str:
        """Address of the running app."""
        return self.open.enter_context(running_app(self.qa))


@dataclass(frozen=True)
class Screen:
    """Screen: a page in the state to show.

    Attributes:
        visit: opens the page and brings it into that state.
        width, height: of the window, in pixels; the picture is as high as the page.
        part: selector of the part of the page that is shown; "" for all.
    """

    visit: Callable[[Page, Studio], None]
    width: int = 1200
    height: int = 700
    part: str = ""

    def shot(self, page: Page) -> Image.Image:
        """Picture of the page, or of its part."""
        taken = page.locator(self.part).screenshot() if self.part else page.screenshot(full_page=True)
        return Image.open(io.BytesIO(taken)).convert("RGB")


def visit_comparison(page: Page, studio: Studio) -> None:
    """Compare about the example picture, and choose globalcom2 at a tenth of the tokens."""
    compared = studio.qa.compare(
        "what digit is shown?",
        image=str(ROOT / "examples" / "scene.png"),
        methods="globalcom2,census",
        retention_ratios=[0.25, 0.1],
    )
    path = studio.folder / "viewer.html"
    path.write_text(compared.html(), encoding="utf-8")
    page.goto(path.as_uri())
    page.locator(".kept-viewer[data-ready]").wait_for()
    page.locator("input.rows").fill("2")


def visit_results(page: Page, studio: Studio) -> None:
    """Evaluate three methods at a tenth of the tokens of 60 clips; open a question that one lost and another kept."""
    runs, path = studio.folder / "runs", studio.folder / "results.html"
    evaluate = "eval --task shapes:clip --limit 60 --methods globalcom2,census,random -r 0.1 --out"
    for words in ([*evaluate.split(), str(runs)], ["results", str(runs), "--html", str(path)]):
        command = [sys.executable, "-m", "vidcompress", *words]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    page.goto(path.as_uri())
    page.select_option("#lost", label="globalcom2 at 10 %")
    page.select_option("#kept", label="census at 10 %")
    page.locator("#list tbody button:not([disabled])").first.click()
    page.frame_locator("#look iframe").locator(".kept-viewer[data-ready]").wait_for()
    page.wait_for_timeout(300)  # the frame takes the height of its page


def visit_app(page: Page, studio: Studio) -> None:
    """Ask the app about the example clip and wait for the viewer."""
    page.goto(studio.app)
    page.get_by_text("a clip: how many rings are there?").click()
    page.locator("#preview img").first.wait_for()
    page.locator("#ask").click()
    page.frame_locator("#viewer iframe").get_by_role("heading").first.wait_for(timeout=120_000)
    page.wait_for_timeout(1500)  # the frame takes the height of its page


def visit_cost(page: Page, studio: Studio) -> None:
    """Open the app's tab of costs."""
    page.goto(studio.app)
    page.get_by_role("tab", name="Cost").click()
    page.locator("#cost .vc-large").first.wait_for()
    page.wait_for_timeout(500)


SCREENS = {
    "viewer": Screen(visit_comparison),
    "results": Screen(visit_results, width=1320, part="#questions"),
    "app-ask": Screen(visit_app, width=1280, height=800),
    "app-cost": Screen(visit_cost, width=1280, height=800),
    "app-phone": Screen(visit_app, width=390, height=844),
}


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=[*SCREENS], action="append", help="a page; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    arguments = parser.parse_args()
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        sys.exit("make_screens: needs a browser: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, quiet(), sync_playwright() as driver:
        studio = Studio(Path(folder))
        browser = driver.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        with studio.open:
            for name in arguments.only or SCREENS:
                screen: Any = SCREENS[name]
                page = browser.new_page(viewport={"width": screen.width, "height": screen.height})
                screen.visit(page, studio)
                page.evaluate("document.activeElement.blur()")
                target = arguments.out / f"{name}.png"
                screen.shot(page).quantize(COLORS, dither=Image.Dither.NONE).save(target, optimize=True)
                size = target.stat().st_size
                print(f"wrote {target}, {size / 1000:.0f} KB")
                if size > MOST_BYTES:
                    sys.exit(f"make_screens: {name} has more than {MOST_BYTES / 1000:.0f} KB; show less")
        browser.close()


if __name__ == "__main__":
    main()

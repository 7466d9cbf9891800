"""Take the pictures of the app in docs/pictures: its two tabs on a desktop, and the first one on a phone.

    python scripts/app_pictures.py

Needs gradio and playwright with a chromium, as the tests do (`pip install '.[app,dev]'`). The app answers about the
example clip with the embedded model on the CPU.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from vidcompress import VisualQA
from vidcompress.cli.library_output import quiet
from vidcompress.tools.app.server import running_app

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
COLORS = 96
MOST_BYTES = 160_000


def save(page: Page, name: str) -> None:
    """Write what the page shows, from top to bottom, as a PNG with a palette.

    Raises:
        ValueError: the file is larger than `MOST_BYTES`.
    """
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    path = FOLDER / name
    shot.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{name}: {size} bytes, more than {MOST_BYTES}")
    print(f"{name}: {shot.width} x {shot.height}, {size} bytes")


def asked(page: Page, url: str) -> None:
    """Ask about the example clip and wait for the viewer."""
    page.goto(url)
    page.get_by_text("a clip: how many rings are there?").click()
    page.locator("#preview img").first.wait_for()
    page.locator("#ask").click()
    frame = page.frame_locator("#viewer iframe")
    frame.get_by_role("heading").first.wait_for(timeout=120_000)
    page.wait_for_timeout(1500)  # the frame sets its height


def main() -> None:
    """Serve the app and take the pictures."""
    browser: Any = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with quiet():
        qa = VisualQA.from_pretrained(device="cpu")
        with running_app(qa) as url, sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=browser, args=ARGUMENTS)
            page = chromium.new_page(viewport={"width": 1280, "height": 800})
            asked(page, url)
            save(page, "app-ask.png")
            page.get_by_role("tab", name="Cost").click()
            page.locator("#cost .vc-large").first.wait_for()
            page.wait_for_timeout(500)
            save(page, "app-cost.png")
            phone = chromium.new_page(viewport={"width": 390, "height": 844})
            asked(phone, url)
            save(phone, "app-phone.png")
            chromium.close()


if __name__ == "__main__":
    main()

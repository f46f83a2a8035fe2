"""Take the pictures of the page: docs/page_WIDTH_COLOURS.png, of a run that a real server serves.

python docs/screens.py demo-sudoku9 --example 12 --step 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drawn_from import mark
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
SIZES = {1280: 900, 390: 844}
TOLD = "#verdict:is([data-kind=good], [data-kind=fair], [data-kind=unknown])"


@contextmanager
def served(run: str) -> Iterator[str]:
    """The address of a server of this run, which ends with the block."""
    command = [sys.executable, "-m", "innerloop.cli", "serve", run, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if " at http" not in said:
            raise SystemExit(f"the server did not start: {said}")
        yield said.split()[-1]
    finally:
        process.terminate()
        process.wait()


def shoot(page: Page, url: str, example: int, step: int, path: Path) -> None:
    """Solve an example, go to a step (counted back from the answer where below 0), and take a picture."""
    page.goto(url)
    page.wait_for_selector("#solve:enabled")
    page.click(f"#examples button:nth-child({example})")
    page.click("#solve")
    page.wait_for_selector(TOLD, timeout=120_000)
    page.wait_for_selector("#halting-figure svg.chart")
    answer = int(page.inner_text("#count").split()[1])
    page.locator("#scrubber").evaluate(
        "(s, t) => { s.value = t; s.dispatchEvent(new Event('input')); s.blur(); }",
        max(1, step if step > 0 else answer + step),
    )
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(600)  # the frames of changed cells land
    page.screenshot(path=path)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", help="name of a bundled model")
    ask.add_argument("--example", type=int, default=12, help="which of the page's examples, from 1")
    ask.add_argument("--step", type=int, default=2, help="step that is shown; below 0: counted back from the answer")
    ask.add_argument("--out", type=Path, default=HERE)
    given = ask.parse_args()
    browser_at = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with served(given.run) as url, sync_playwright() as player:
        browser: Any = player.chromium.launch(executable_path=browser_at, args=["--no-sandbox", "--disable-gpu"])
        for width, height in SIZES.items():
            for colours in ("light", "dark"):
                how: Any = {"viewport": {"width": width, "height": height}, "color_scheme": colours}
                page = browser.new_page(**how, device_scale_factor=1 if width > 600 else 2)
                path = given.out / f"page_{width}_{colours}.png"
                shoot(page, url, given.example, given.step, path)
                mark(path, given.run)
                page.close()
                print(path)
        browser.close()


if __name__ == "__main__":
    main()

"""The web page of server and report: its files, and the page as one HTML file with embedded data.

    asset("app.js")      bytes and MIME type of a file, as a server sends it
    standalone(data)     one HTML file that needs no server and makes no requests

Plain ES modules, no build step.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from innerloop.errors import InputError

__all__ = ["asset", "names", "standalone"]

FOLDER = Path(__file__).parent
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
STANDALONE = "standalone.html"  # bundled from the others; the page fetches it to save a solve as one file
STYLE_TAG = '<link rel="stylesheet" href="static/style.css" />'
SCRIPT_TAG = '<script type="module" src="static/app.js"></script>'
DATA_SLOT = 'id="data">null<'  # once in the page, in an element that no browser runs
ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&"})  # what could end the element, or begin a comment in it


def names() -> list[str]:
    """Of all files of the page: index.html, style.css, its modules, and all of them in one, standalone.html."""
    return sorted([STANDALONE, *(p.name for p in FOLDER.iterdir() if p.suffix in KINDS)])


def asset(name: str) -> tuple[bytes, str]:
    """A file of the page and its MIME type. Raises InputError for any other name."""
    if name not in names():
        raise InputError(f'the page has no file "{name[:100]}": it has {", ".join(names())}')
    body = template().encode() if name == STANDALONE else (FOLDER / name).read_bytes()
    return body, f"{KINDS[Path(name).suffix]}; charset=utf-8"


def standalone(data: Any) -> str:
    """The page with scripts, style and data embedded; opens from a disk.

    data  {"model": as /v1/models/NAME says it, "thoughts": [{"request", "begin", "steps": [step, ...], "done",
          "explanation", "wrong"}, ...]} where begin, step and done are the events of /v1/models/NAME/think, and wrong
          are givens that contradict each other. The model may have more fields than a server's: "saved" (a page of
          one solve), "learning", "trained" and "commands", see show/report.py.
    Raises InputError for what is not JSON, such as a NaN.
    """
    try:
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)  # in ASCII: no text in it can be unwritable
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the page's data are not plain JSON ({error}): give it numbers, texts, lists and dicts"
        ) from None
    return template().replace(DATA_SLOT, DATA_SLOT.replace("null", text.translate(ESCAPES)))


@cache
def template() -> str:
    """The page in one file, without data. Its policy lets a browser run this script and no other."""
    page, style = ((FOLDER / name).read_text("utf-8") for name in ("index.html", "style.css"))
    style, code = f"\n{style}", f"\n{bundle()}"
    allowed = f"default-src 'none'; img-src data: blob:; style-src {sha256(style)}; script-src {sha256(code)}; "
    policy = f"<meta http-equiv=\"Content-Security-Policy\" content=\"{allowed}base-uri 'none'; form-action 'none'\" />"
    script = f'<script type="application/json" {DATA_SLOT}/script>\n    <script type="module">{code}</script>'
    return page.replace(STYLE_TAG, f"{policy}\n    <style>{style}</style>").replace(SCRIPT_TAG, script)


def sha256(text: str) -> str:
    """An inline style or script as a Content-Security-Policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def bundle(first: str = "app.js") -> str:
    """A module and all it imports as one script: modules after those they need, without their imports and exports.

    A browser does not load modules from a disk. Names at the top of the modules must differ for this.
    """
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        if name in parts:
            return
        code = (FOLDER / name).read_text("utf-8")
        for other in re.findall(r'^import .* from "\./(.*)";$', code, re.M):
            add(other)
        parts[name] = re.sub(r"^export ", "", re.sub(r"^import .*\n", "", code, flags=re.M), flags=re.M)

    add(first)
    return "".join(parts.values())

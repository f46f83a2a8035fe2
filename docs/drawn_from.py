"""What a picture was drawn from, written in the picture itself: a test compares it with what is there today.

A bundled model is named with the hash of its weights, a file of results with the hash of its bytes.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from innerloop.pretrained import FOLDER
from innerloop.runs.single import CHECKSUM_KEY, SUFFIX, read_texts

ROOT = Path(__file__).resolve().parents[1]
KEY = "Drawn from"


def now(name: str) -> str:
    """A bundled model, or a file of this checkout, as it is now: its name and a hash."""
    single = FOLDER / f"{name}{SUFFIX}"
    found = (
        read_texts(single)[CHECKSUM_KEY] if single.exists() else hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
    )
    return f"{name} {found[:16]}"


def mark(picture: Path, name: str) -> None:
    """Write into an SVG or PNG file what it was drawn from."""
    if picture.suffix == ".svg":
        text = picture.read_text().rstrip().removesuffix("</svg>")
        picture.write_text(f"{text}<!-- {KEY}: {now(name)} --></svg>\n")
        return
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text(KEY, now(name))
    with Image.open(picture) as image:
        image.load()
        image.save(picture, pnginfo=about, optimize=True)


def read(picture: Path) -> str:
    """What a picture says that it was drawn from; "" where it says nothing."""
    if picture.suffix == ".svg":
        found = re.findall(f"<!-- {KEY}: (.*?) -->", picture.read_text())
        return found[-1] if found else ""
    from PIL import Image

    with Image.open(picture) as image:
        return str(image.info.get(KEY, ""))

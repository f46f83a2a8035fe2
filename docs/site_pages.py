"""Pages of the site that are files of the repository elsewhere: a hook of mkdocs.

README.md is the first page; examples/tour.ipynb, CHANGELOG.md and CONTRIBUTING.md have pages, and so has every file
that a page points to. Links are written as the repository needs them (docs/start.md, ../examples/my_loop.py), and lead
to the page in the site.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
OWN = {
    "index.md": "README.md",
    "tour.md": "examples/tour.ipynb",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
LANGUAGES = {".py": "python", ".toml": "toml", ".csv": "text", ".sh": "sh", ".yml": "yaml"}


def source(page: str) -> str:
    """The file of the repository that a page of the site is."""
    if page in OWN:
        return OWN[page]
    return page.removeprefix("files/").removesuffix(".md") if page.startswith("files/") else f"docs/{page}"


def page_of(path: str) -> str:
    """The page or picture of the site that a file of the repository is."""
    known = {file: page for page, file in OWN.items()}
    return known.get(path) or (path.removeprefix("docs/") if in_docs(path) else f"files/{path}.md")


def in_docs(path: str) -> bool:
    """Whether mkdocs takes the file from docs/ by itself; scripts are not part of the site as they are."""
    return path.startswith("docs/") and not path.endswith(".py")


def target(page: str, link: str) -> str:
    """The file of the repository that a link of this page means; "" where it means none."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source(page)), link))
    return path if "://" not in link and not path.startswith("..") and (ROOT / path).is_file() else ""


def rewritten(page: str, text: str) -> str:
    """The text of a page with its links as the site needs them."""

    def link(match: re.Match[str]) -> str:
        path = target(page, match[2])
        there = posixpath.relpath(page_of(path), posixpath.dirname(page) or ".") if path else match[2]
        return f"{match[1]}{there}{match[3] or ''}{match[4]}"

    return LINK.sub(link, text)


def text_of(path: str) -> str:
    """A file of the repository as Markdown."""
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        return text
    if path.endswith(".ipynb"):
        return notebook(json.loads(text))
    return f"# {path}\n\n{fenced(text, LANGUAGES.get(Path(path).suffix, 'text'))}\n"


def fenced(text: str, language: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def notebook(value: Any) -> str:
    """The cells of a notebook, without what they printed."""
    cells = ((c["cell_type"], "".join(c["source"])) for c in value["cells"])
    return "\n\n".join(text if kind == "markdown" else fenced(text, "python") for kind, text in cells) + "\n"


def linked_files(pages: dict[str, str]) -> set[str]:
    """Files of the repository, beside those with a page, that these pages point to."""
    found = {target(page, link[1]) for page, text in pages.items() for link in LINK.findall(text)}
    return {path for path in found if path and path not in OWN.values() and not in_docs(path)}


# -- what mkdocs calls -------------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie elsewhere in the repository."""
    from mkdocs.structure.files import File

    pages = {f.src_uri: f.content_string for f in files.documentation_pages()}
    pages |= {page: text_of(path) for page, path in OWN.items()}
    new = dict(OWN)
    while missing := {page_of(path): path for path in linked_files(pages)}.keys() - pages.keys():  # their links too
        new |= {page: source(page) for page in missing}
        pages |= {page: text_of(source(page)) for page in missing}
    for page, path in new.items():
        files.append(File.generated(config, page, content=text_of(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as the site needs them."""
    return rewritten(page.file.src_uri, markdown)

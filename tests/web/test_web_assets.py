"""The page's files without a browser: small, consistent, and complete in one file."""

import json
import re
from pathlib import Path

import pytest

from innerloop import web
from innerloop.errors import InputError

FOLDER = Path(web.__file__).parent
MODULES = sorted(FOLDER.glob("*.js"))


def test_names_and_kinds():
    assert {"index.html", "style.css", "app.js", "standalone.html"} <= set(web.names())
    body, kind = web.asset("app.js")
    assert body == (FOLDER / "app.js").read_bytes() and kind.startswith("text/javascript")
    assert web.asset("style.css")[1].startswith("text/css") and web.asset("index.html")[1].startswith("text/html")
    for bad in ("../web/app.js", "__init__.py", "nothing.js", ""):
        with pytest.raises(InputError, match="has no file"):
            web.asset(bad)


def test_the_scripts_are_small_and_say_their_idea():
    assert sum(p.stat().st_size for p in MODULES) < 60 * 1024
    for path in MODULES:
        text = path.read_text()
        assert text.startswith("// ") and text.endswith("\n"), path.name
        assert max(map(len, text.splitlines())) <= 120, path.name
        assert "\t" not in text and not re.search(r" +$", text, re.M), path.name


def test_nobody_else_is_asked():
    for name in web.names():
        text = web.asset(name)[0].decode()
        found = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"']*", text)
        assert set(found) <= {"http://www.w3.org/2000/svg"}, name


def test_scripts_and_page_agree_on_names():
    page = (FOLDER / "index.html").read_text()
    known = set(re.findall(r'id="([\w-]+)"', page)) | {"data"}
    used = {name for p in MODULES for name in re.findall(r'\bat\("([\w-]+)"\)', p.read_text())}
    assert used and used <= known, used - known


def test_one_file_has_everything():
    page = web.standalone({"model": {"name": "</script><b>"}, "thoughts": []})
    assert "static/" not in page.replace('fetch("static/standalone.html")', "") and "src=" not in page
    assert not re.search(r"^(import|export) ", page, re.M)
    kept = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1)
    assert json.loads(kept)["model"]["name"] == "</script><b>"
    bodies = re.findall(r'<script type="module">(.*?)</script>', page, re.S)
    assert len(bodies) == 1 and all(p.read_text().splitlines()[0] in bodies[0] for p in MODULES)


@pytest.mark.parametrize("bad", [float("nan"), {1, 2}])
def test_data_must_be_json(bad):
    with pytest.raises(InputError, match="not plain JSON"):
        web.standalone({"model": bad})

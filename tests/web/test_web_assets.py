"""The page's files without a browser: small, consistent, and complete in one file."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from innerloop import web
from innerloop.errors import InputError

FOLDER = Path(web.__file__).parent
TEXT = sorted(FOLDER.glob("text*.js"))  # of the page of a language model, which shares dom.js and api.js
MODULES = sorted(set(FOLDER.glob("*.js")) - set(TEXT))


def test_names_and_kinds():
    assert {"index.html", "style.css", "app.js", "standalone.html"} <= set(web.names())
    body, kind = web.asset("app.js")
    assert body == (FOLDER / "app.js").read_bytes() and kind.startswith("text/javascript")
    assert web.asset("style.css")[1].startswith("text/css") and web.asset("index.html")[1].startswith("text/html")
    for bad in ("../web/app.js", "__init__.py", "nothing.js", ""):
        with pytest.raises(InputError, match="has no file"):
            web.asset(bad)


def test_the_scripts_are_small_and_say_their_idea():
    assert sum(p.stat().st_size for p in MODULES) < 72 * 1024
    assert sum(p.stat().st_size for p in [*TEXT, FOLDER / "text.html", FOLDER / "text.css"]) < 24 * 1024
    for path in [*MODULES, *TEXT]:
        text = path.read_text()
        assert text.startswith("// ") and text.endswith("\n"), path.name
        assert max(map(len, text.splitlines())) <= 120, path.name
        assert "\t" not in text and not re.search(r" +$", text, re.M), path.name


def test_nobody_else_is_asked():
    for name in web.names():
        text = web.asset(name)[0].decode()
        found = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"']*", text)
        assert set(found) <= {"http://www.w3.org/2000/svg"}, name


@pytest.mark.parametrize(("page", "modules"), [("index.html", MODULES), ("text.html", TEXT)])
def test_scripts_and_page_agree_on_names(page, modules):
    known = set(re.findall(r'id="([\w-]+)"', (FOLDER / page).read_text())) | {"data"}
    used = {name for p in modules for name in re.findall(r'\bat\("([\w-]+)"\)', p.read_text())}
    assert used and used <= known, used - known


def test_one_file_has_everything():
    page = web.standalone({"model": {"name": "</script><b>"}, "thoughts": []})
    assert "static/" not in page.replace('fetch("static/standalone.html")', "") and "src=" not in page
    assert not re.search(r"^(import|export) ", page, re.M)
    assert kept(page)["model"]["name"] == "</script><b>"
    bodies = re.findall(r'<script type="module">(.*?)</script>', page, re.S)
    assert len(bodies) == 1 and all(p.read_text().splitlines()[0] in bodies[0] for p in MODULES)


def kept(page):
    """The data in a page."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1))


HOSTILE = [
    "'); } window.__x = 1; async function zz() { const page = document.title; return page.replace('",
    'bob\'s run "2"',
    "</script><script>window.__x = 1</script><!--<script>",
    "<img src=x onerror='window.__x = 1'>",
    'id="data">null<',
    "$& $` $' \\0 \\u003c \u2028 \u2029 \u202e \x00 \udc80 &lt; ]]>",
    "${window.__x = 1}`",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_data_are_in_no_script_and_end_no_element(text):
    """Whatever a page is given, its scripts stay those of the template, to the letter, and its policy names them."""
    data = {"model": {"name": text, text: [text]}, "thoughts": [{"explanation": [text]}]}
    page, plain = web.standalone(data), web.asset(web.STANDALONE)[0].decode()
    assert kept(page) == data
    start, end = plain.index("null<"), plain.index("null<") + 4
    assert page.startswith(plain[:start]) and page.endswith(plain[end:])
    inside = page[start : len(page) - len(plain) + end]
    assert inside.isascii() and inside.isprintable() and not set("<>&") & set(inside)
    page.encode()


def test_the_policy_of_the_one_file_names_what_is_in_it():
    page = web.asset(web.STANDALONE)[0].decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', page).group(1)
    for kind, tag in (("script", '<script type="module">'), ("style", "<style>")):
        (code,) = re.findall(f"{tag}(.*?)</{kind}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy and page.count(web.DATA_SLOT) == 1
    assert page.index("http-equiv=") < page.index("<style>") < page.index(web.DATA_SLOT)


@pytest.mark.parametrize("bad", [float("nan"), {1, 2}])
def test_data_must_be_json(bad):
    with pytest.raises(InputError, match="not plain JSON"):
        web.standalone({"model": bad})

"""The site of pages and reference: it builds strictly without a network, and asks nobody for anything."""

import re
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # the site is built

WITHOUT_NETWORK = """
import socket, sys
def refuse(*words): raise OSError("the site is built without a network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the site needs innerloop[docs]")
    pytest.importorskip("mkdocstrings", reason="the site needs innerloop[docs]")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-c", WITHOUT_NETWORK, "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """Ids of a page, what it loads, and where it links to."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.loads, self.links = set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[k] for k in ("id", "name") if found.get(k)}
        if tag == "a":
            self.links += [found["href"]] if found.get("href") else []
        else:
            self.loads += [v for k in ("src", "href", "data", "poster") if (v := found.get(k))]
            self.loads += [part.split()[0] for part in (found.get("srcset") or "").split(",") if part.strip()]


def test_no_page_loads_anything_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 35
    for path in pages:
        page = Page(path)
        assert page.loads and not [u for u in page.loads if urlsplit(u).netloc], path.name
        assert 'class="mermaid"' not in path.read_text(), "Material fetches mermaid from elsewhere"
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", path.read_text()), path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", path.read_text()), path.name


def test_every_link_and_picture_of_the_site_is_there(site):
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    seen = 0
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            assert there.is_file(), f"{path.name} points to {link}"
            if parts.fragment and there.suffix == ".html" and not parts.fragment.startswith("__"):
                assert unquote(parts.fragment) in pages[there].ids, f"{path.name} points to {link}"
            seen += 1
    assert seen > 3000


def test_docstrings_stand_in_the_reference_as_text(site):
    text = (site / "reference/core.html").read_text()
    assert 'id="innerloop.think"' in text and "<dt><code>halt</code></dt>" in text
    assert "(B, S) int: tokens, 0 = padding" in text
    for path in (site / "reference").glob("*.html"):
        body = re.sub(r"<(pre|code).*?</\1>", "", path.read_text(), flags=re.S)
        assert not re.search(r"\\[_*<\[]", body), f"a sign is shown with its backslash: {path.name}"
        assert "&amp;lt;" not in body


@pytest.fixture(scope="module")
def url(site):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_a_browser_asks_the_site_alone_and_paints_at_once(browser, url, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, others, errors = context.new_page(), [], []
    page.on("request", lambda r: r.url.startswith((url, "data:", "blob:")) or others.append(r.url))
    page.on("response", lambda r: r.status >= 400 and errors.append(f"{r.status} {r.url}"))
    page.on("console", lambda m: m.type in ("error", "warning") and errors.append(m.text))
    page.on("pageerror", lambda e: errors.append(str(e)))
    for path in ("index.html", "reference/core.html", "results.html"):
        times = []
        while not times or (min(times) >= 1000 and len(times) < 5):  # the best: others work on this machine
            page.goto(url + path)
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            times += page.evaluate("performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)")
        assert min(times) < 1000, (path, times)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the window"
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0] < 100")
        assert dark == (scheme == "dark")
    page.wait_for_load_state("networkidle")
    assert not others and not errors
    context.close()


def test_the_search_finds_a_public_name(browser, url):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(url + "start.html")
    page.fill(".md-search__input", "think_many")
    page.wait_for_selector(".md-search-result__link", timeout=20_000)
    links = page.eval_on_selector_all(".md-search-result__link", "all => all.map(a => a.href)")
    assert any("reference/core.html" in link for link in links)
    context.close()

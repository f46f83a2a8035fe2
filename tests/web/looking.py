"""What the page's tests share: asking the API, reading the board, solving."""

import json
import urllib.request

DIALS = {
    "depth": 8,
    "width": 3,
    "pick": "auto",
    "noise": [0, 0],
    "views": True,
    "halting": False,
    "min_confidence": 0.5,
}
DIALS |= {"seed": 0, "exact": False, "identifier": 0}
BLANK = "." * 16


def ask(server, path, body=None):
    """What the API says; a stream comes as a list of (event, data)."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        text = reply.read().decode()
    if not path.endswith("/think"):
        return json.loads(text)
    blocks = [b.split("\n", 1) for b in text.strip().split("\n\n")]
    return [(e.removeprefix("event: "), json.loads(d.removeprefix("data: "))) for e, d in blocks]


def board(page):
    """The text on the board, as the puzzle's symbols."""
    return "".join(page.eval_on_selector_all("#board [data-cell]", "cells => cells.map(c => c.dataset.symbol)"))


def marked(page, kind):
    """Cells that carry a mark of this kind."""
    script = f"cells => cells.filter(c => c.querySelector('.{kind}')).map(c => Number(c.dataset.cell))"
    return page.eval_on_selector_all("#board [data-cell]", script)


def turn(page, depth=8, width=3):
    page.fill("#depth", str(depth))
    page.fill("#width", str(width))


def solve(page, **dials):
    """Press solve, wait for the verdict, and return what kind it is."""
    turn(page, **dials)
    page.click("#solve")
    page.wait_for_selector("#verdict:is([data-kind=good], [data-kind=fair], [data-kind=unknown])")
    return page.get_attribute("#verdict", "data-kind")


def ask_question(page):
    return page.input_value("#text").replace("\n", "")

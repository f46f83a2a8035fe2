"""The page where something goes wrong, and for everybody: keys, names, widths, colours."""

import pytest
from looking import solve, turn

pytestmark = pytest.mark.slow  # a browser, and a model that is trained for it


# -- going wrong -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(serve, run):
    """A server for the two tests that follow; the second ends it."""
    return serve(run, "--streams", "1")


def test_a_full_server_is_asked_again(small, visit):
    busy = visit(small.url, reduced_motion="no-preference")
    turn(busy, depth=1000, width=4)
    busy.click("#solve")
    busy.wait_for_selector("#count:text-matches('step [0-9]+ of 1000')")
    page = visit(small.url, expect=("429",))
    turn(page)
    page.click("#solve")
    page.wait_for_selector("#trouble:visible")
    assert "Trying again in" in page.inner_text("#trouble p")
    busy.click("#solve")
    page.wait_for_selector("#verdict:is([data-kind=good], [data-kind=unknown])")
    assert page.locator("#trouble").is_hidden()


def test_a_server_that_went_away(small, visit):
    page = visit(small.url, expect=("ERR_", "Failed to load"))
    small.process.kill()
    small.process.wait()
    page.click("#solve")
    page.wait_for_selector("#trouble:visible")
    assert "does not answer" in page.inner_text("#trouble p") and page.inner_text("#solve") == "Solve"
    page.click("#trouble button")
    page.wait_for_selector("#trouble:visible")


# -- for everybody -----------------------------------------------------------------------------------------------------

UNNAMED = """() => [...document.querySelectorAll('button, input, select, textarea, summary')].filter((node) => {
  if (!node.checkVisibility()) return false;
  const label = node.labels?.length ? [...node.labels].map((l) => l.textContent).join('') : '';
  return !(node.getAttribute('aria-label') || label || node.textContent).trim();
}).map((node) => node.outerHTML)"""


def test_controls_have_names_and_focus_is_seen(server, visit):
    page = visit(server.url)
    page.click("summary:has-text('Noise')")
    solve(page)
    page.click("[data-cell='3']")
    assert page.evaluate(UNNAMED) == []
    assert page.get_attribute("[data-cell='3']", "aria-label").startswith("row 1 column 4: ")
    page.click(".brand")
    seen = set()
    for _ in range(70):
        page.keyboard.press("Tab")
        here = page.evaluate(
            """() => { const n = document.activeElement, s = getComputedStyle(n), end = n === document.body;
            return [end ? '' : n.id || n.textContent, s.outlineStyle !== 'none' && s.outlineWidth !== '0px'] }"""
        )
        seen.add(here[0])
        assert here[1] or here[0] in ("scrubber", ""), here  # the slider's own thumb shows it
    assert {"solve", "play", "scrubber", "text", "depth", "pick", "csv", "theme", "board"} <= seen


@pytest.mark.parametrize("width", [1280, 900, 390])
def test_it_fits(server, visit, width):
    page = visit(server.url, viewport={"width": width, "height": 844})
    solve(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    small = page.evaluate(
        """() => [...document.querySelectorAll('#transport button, #solve, #examples button')]
        .map((n) => n.getBoundingClientRect()).filter((r) => Math.min(r.width, r.height) < 24).length"""
    )
    assert small == 0, "big enough for a finger"


def test_light_and_dark(server, visit):
    page = visit(server.url, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#theme")
    light = page.evaluate(ground)
    page.click("#theme")
    assert dark != light and page.evaluate(ground) == dark
    assert visit(server.url, color_scheme="light").evaluate(ground) == light

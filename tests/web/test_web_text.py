"""The page of a language model, in a browser, over a real server whose model writes word by word."""

import pytest
from test_web_everybody import UNNAMED
from text_server import Slow, products, serving, until

from innerloop.tokens.way import Verdict

pytestmark = pytest.mark.slow  # a browser

QUESTION = "What is 6 * 7?"
ENDED = "#verdict:not([data-kind=busy]):not([data-kind=idle])"


@pytest.fixture
def model():
    return Slow(products)


@pytest.fixture
def server(model):
    with serving(model, think="vote(6)", tokens=5000) as made:
        yield made


@pytest.fixture(scope="module")
def sure_server():
    """One whose every text holds an answer."""
    with serving(Slow(lambda prompt, seed: products(prompt, 1)), think="vote(6)", tokens=5000) as made:
        yield made


def ask(page, question=QUESTION, **form):
    for name in ("way", "kind"):
        if name in form:
            page.select_option(f"#{name}", form[name])
    if "tokens" in form:
        page.fill("#tokens", str(form["tokens"]))
    page.fill("#question", question)
    page.press("#question", "Enter")


def cards(page):
    """(name, state, text, what was found, whether it is marked) of every card."""
    return page.eval_on_selector_all(
        ".sample",
        """all => all.map((n) => [n.getAttribute('aria-label'), n.dataset.state, n.querySelector('pre').textContent,
        n.querySelector('.found').textContent, n.dataset.won ?? ''])""",
    )


def test_samples_are_written_side_by_side_while_they_are_written(server, model, visit):
    model.may.clear()
    page = visit(server.url + "/")
    assert page.title() == "tiny · Innerloop" and page.input_value("#way") == "vote(6)"
    ask(page)
    page.wait_for_selector("#verdict[data-kind=busy]")
    assert [c[:2] for c in cards(page)] == [[f"sample {i}", "waiting"] for i in range(1, 7)]
    assert page.inner_text("#solve") == "Stop"
    model.free = 3
    for i in range(1, 7):
        page.wait_for_selector(f".sample:nth-child({i})[data-state=writing]")
    assert page.get_attribute("#verdict", "data-kind") == "busy", "none has its result yet"
    model.may.set()
    page.wait_for_selector(ENDED)
    made = cards(page)
    assert all(text.startswith("I multiply six by seven") for _, _, text, _, _ in made)
    answers = [found.removeprefix("answer ").removesuffix(" found in it") for _, _, _, found, _ in made]
    title = page.inner_text("#verdict strong")
    votes = answers.count(title)
    assert title in ("41", "42") and votes == max(answers.count("41"), answers.count("42"))
    assert [won for _, _, _, _, won in made] == ["yes" if i == answers.index(title) else "" for i in range(6)]
    assert f"of the votes: {votes} of 6." in page.inner_text("#verdict .what")
    tally = page.eval_on_selector_all("#tally li", "all => all.map((n) => [...n.children].map((c) => c.textContent))")
    assert {name: int(count) for name, count, _ in tally} == {a: answers.count(a) for a in answers}
    spent = page.inner_text("#spent")
    assert "completions\n6" in spent and "tokens written" in spent and "of them cached" in spent and "time\n" in spent
    assert title in page.inner_text("#live") and page.inner_text("#solve") == "Ask"
    assert page.input_value("#question") == QUESTION


def test_a_chain_is_one_text(sure_server, visit):
    page = visit(sure_server.url + "/")
    ask(page, way="chain")
    page.wait_for_selector(ENDED)
    ((name, state, text, _, _),) = cards(page)
    assert (name, state) == ("answer", "answered") and text.startswith("I multiply")
    assert page.inner_text("#verdict .what").startswith("Nothing tells how sure")
    assert page.locator("#tally li").count() == 0


def test_attempts_come_one_after_the_other_until_one_is_verified(visit):
    write = lambda p, s: " The answer is " + ("42." if "too small" in p else "41.")  # noqa: E731
    with serving(Slow(write), check=lambda a: Verdict(a == "42", "too small"), tokens=5000) as server:
        page = visit(server.url + "/")
        ask(page, way="retry(4)")
        page.wait_for_selector("#verdict[data-kind=good]")
        assert [(c[0], c[3], c[4]) for c in cards(page)] == [
            ("attempt 1", "answer 41", ""),
            ("attempt 2", "answer 42", "verified"),
        ]
        assert "Verified" in page.inner_text("#verdict .what") and page.locator("#kind").is_disabled()


def test_stop_ends_the_work_on_the_server_and_keeps_what_was_written(server, model, visit):
    model.free = 5
    model.may.clear()
    page = visit(server.url + "/")
    ask(page)
    page.wait_for_selector(".sample[data-state=writing]")
    page.click("#solve")
    page.wait_for_selector("#verdict[data-kind=idle]")
    until(lambda: not server.service.in_flight)
    assert 0 < model.written <= 6 * 5 and "Stopped" in page.inner_text("#verdict .what")
    assert {c[1] for c in cards(page)} == {"stopped"} and any(c[2] for c in cards(page))
    assert page.input_value("#question") == QUESTION and page.inner_text("#solve") == "Ask"
    model.may.set()
    page.press("#question", "Enter")
    page.wait_for_selector(ENDED)
    model.may.clear()
    page.press("#question", "Enter")
    page.wait_for_selector(".sample[data-state=writing]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#verdict[data-kind=idle]")
    until(lambda: not server.service.in_flight)
    model.free = 0  # the first word is still to come, and with it the reply
    page.press("#question", "Enter")
    until(lambda: server.service.live)
    page.click("#solve")
    page.wait_for_selector("#verdict[data-kind=idle]")
    until(lambda: not server.service.in_flight)


def test_it_says_that_it_does_not_know_and_offers_a_vote(visit):
    with serving(Slow(lambda p, s: " I like cheese."), tokens=5000) as server:
        page = visit(server.url + "/")
        ask(page, way="chain")
        page.wait_for_selector("#verdict[data-kind=unknown]")
        assert "know" in page.inner_text("#verdict strong") and "no answer found" in cards(page)[0][3]
        page.click("#offers button:has-text('vote(4)')")
        page.wait_for_selector(".sample:nth-child(4)[data-state=unparsed]")
        page.wait_for_selector("#verdict[data-kind=unknown]")
        assert page.inner_text("#tally") == "no answer\n4"
        ask(page, way="chain", kind="text")
        page.wait_for_selector("#verdict[data-kind=fair]")
        assert page.inner_text("#verdict strong") == "i like cheese"


def test_it_says_that_it_was_cut_off_and_offers_more_tokens(sure_server, visit):
    page = visit(sure_server.url + "/")
    ask(page, way="vote(8)", tokens=7)
    page.wait_for_selector("#verdict[data-kind=unknown]")
    assert page.inner_text("#verdict strong") == "Cut off" and "7 tokens" in page.inner_text("#verdict .what")
    assert {c[3] for c in cards(page)} == {"no tokens left for it"}
    ask(page, way="chain", tokens=120)
    page.wait_for_selector("#cards.alone")
    page.wait_for_selector("#verdict[data-kind=unknown]")
    assert cards(page)[0][3] == "cut off before an answer"
    page.click("#offers button:has-text('Allow 480 tokens')")
    page.wait_for_selector("#verdict[data-kind=fair]")
    assert page.input_value("#tokens") == "480"


def test_what_cannot_be_asked_is_said_and_what_was_typed_is_kept(server, visit):
    page = visit(server.url + "/", expect=("400", "Failed to load"))
    ask(page, " ")
    assert page.inner_text("#problem").endswith("Write a question first.")
    assert page.get_attribute("#question", "aria-invalid") == "true"
    ask(page, tokens=9000)
    assert "1 to 5,000 tokens" in page.inner_text("#problem") and page.evaluate("document.activeElement.id") == "tokens"
    ask(page, "x" * 70_000, tokens=5000)
    page.wait_for_selector("#trouble:visible")
    assert "context" in page.inner_text("#trouble p") and len(page.input_value("#question")) == 70_000
    ask(page)
    page.wait_for_selector(ENDED)
    assert page.locator("#trouble").is_hidden() and page.inner_text("#problem") == ""
    assert visit(page.url).input_value("#question") == QUESTION, "the address has it"


def test_a_full_server_is_asked_again(model, visit):
    model.may.clear()
    with serving(model, think="chain", workers=1, queue=0) as server:
        first, page = visit(server.url + "/"), visit(server.url + "/", expect=("429",))
        ask(first)
        until(lambda: server.service.live)
        ask(page)
        page.wait_for_selector("#trouble:visible")
        assert "Trying again in" in page.inner_text("#trouble p")
        model.may.set()
        for each in (first, page):
            each.wait_for_selector(ENDED)
        assert page.locator("#trouble").is_hidden()


def test_hostile_texts_are_texts(visit):
    bad = "<img src=x onerror='window.__x = 1'><script>window.__x = 1</script> \u202e The answer is <b>9</b>"
    with serving(Slow(lambda p, s: bad), think="vote(2)", kind="text", name="<b>x</b>") as server:
        page = visit(server.url + "/")
        ask(page, bad)
        page.wait_for_selector(ENDED)
        assert page.evaluate("window.__x") is None and page.locator("#cards b, #cards img, #about b").count() == 0
        assert cards(page)[0][2] == bad and page.inner_text("#about") == "<b>x</b>"


def test_controls_have_names_and_are_reached_by_keys(server, visit):
    page = visit(server.url + "/")
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type(QUESTION)
    page.keyboard.press("Shift+Enter")
    assert page.input_value("#question") == QUESTION + "\n" and page.locator(".sample").count() == 0
    page.keyboard.press("Enter")
    page.wait_for_selector(ENDED)
    assert page.evaluate(UNNAMED) == []
    page.click(".brand")
    seen = set()
    for _ in range(16):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        outlined = (
            "(s => s.outlineStyle !== 'none' && s.outlineWidth !== '0px')(getComputedStyle(document.activeElement))"
        )
        assert page.evaluate(outlined) or page.evaluate("document.activeElement === document.body")
    assert {"theme", "question", "way", "kind", "tokens", "solve", "PRE"} <= seen


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_it_fits(width, visit):
    long = lambda p, s: " " + "w" * 300 + f" The answer is {10**30 + s % 2}."  # noqa: E731
    with serving(Slow(long), think="vote(6)", tokens=50_000) as server:
        page = visit(server.url + "/", viewport={"width": width, "height": 844})
        ask(page, "q" * 400)
        page.wait_for_selector(ENDED)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        columns = page.evaluate("new Set([...document.querySelectorAll('.sample')].map((n) => n.offsetLeft)).size")
        assert columns == {320: 1, 390: 1, 768: 2, 1280: 4}[width]


def test_light_and_dark(server, visit):
    page = visit(server.url + "/", color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#theme")
    assert page.evaluate(ground) != dark

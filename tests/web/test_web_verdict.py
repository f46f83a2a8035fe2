"""What the page says: the verdict and its step, "I don't know", contradictions, and words where they stand."""

import json
import time

import pytest
from looking import BLANK, ask, ask_question, board, marked, solve

pytestmark = pytest.mark.slow  # a browser, and a model that is trained for it

SOLVE = {"depth": 64, "width": 1, "pick": "verified"}


def test_the_verdict_belongs_to_the_step_that_earned_it(server, visit, thought):
    _, done = thought
    page = visit(server.url)
    page.click("#examples button:nth-child(3)")
    assert solve(page) == "good"
    step, k = done["solution"]["steps"], done["solution"]["trajectory"]
    colour = "getComputedStyle(document.querySelector('#verdict .sign')).backgroundColor"
    earned = page.evaluate(colour)

    def elsewhere():
        return page.get_attribute("#verdict", "data-elsewhere") == "yes" and page.evaluate(colour) != earned

    assert not elsewhere() and page.locator("#earned").is_hidden()
    for away in ("page.keyboard.press('Home')", "page.locator('.track').nth((k + 1) % 3).click()"):
        page.click("h1")
        eval(away, {"page": page, "k": k})
        assert elsewhere() and f"step {step} of trajectory {k + 1}" in page.inner_text("#earned")
        page.click("#earned button")
        assert not elsewhere() and board(page) == done["solution"]["answer"]
        assert page.inner_text("#count") == f"step {step} of 8"


def test_playing_again_begins_with_the_puzzle_and_stops_at_the_answer(server, visit, thought):
    page = visit(server.url, reduced_motion="no-preference")
    page.click("#examples button:nth-child(3)")
    solve(page)
    answer = page.inner_text("#count")
    page.click("#play")
    assert page.inner_text("#count") == "the puzzle" and board(page) == ask_question(page)
    page.wait_for_selector("#play[aria-label=play]")
    assert page.inner_text("#count") == answer == f"step {thought[1]['solution']['steps']} of 8"


def test_it_opens_on_the_example_that_takes_the_most_steps(server, visit):
    while (detail := ask(server, "v1/models/sudoku4"))["measuring"]:
        time.sleep(0.2)
    page = visit(server.url)
    pressed = page.locator("#examples button[aria-pressed=true]")
    assert pressed.count() == 1 and pressed.inner_text() == str(detail["start"] + 1)
    told = [ask(server, "v1/models/sudoku4/solve", SOLVE | {"puzzle": e["question"]}) for e in detail["examples"]]
    assert told[detail["start"]]["steps"] == max(t["steps"] for t in told if t["known"])


def test_i_dont_know_offers_a_way_on(server, visit):
    page = visit(server.url + "#model=maze")
    assert solve(page, depth=2, width=2) == "unknown"
    assert page.locator("#offers button").all_inner_texts() == [
        "Think longer: 8 steps",
        "More trajectories: 8",
        "Ask the exact solver",
    ]
    done = "#verdict[data-kind=unknown] >> text=trajector"
    for i, dials in enumerate([("8", "2"), ("8", "8")]):
        with page.expect_request("**/think") as sent:
            page.locator("#offers button").nth(i).click()
        body = sent.value.post_data_json
        assert (str(body["depth"]), str(body["width"])) == dials
        assert (page.input_value("#depth"), page.input_value("#width")) == dials
        page.wait_for_selector(done)
        page.wait_for_selector("#offers button")
    page.click("#offers button:has-text('exact')")
    page.wait_for_selector("#verdict[data-kind=good]")
    assert page.inner_text("#count") == "exact solver" and page.locator("#offers").is_hidden()
    answer = board(page)
    assert ask(server, "v1/models/maze/check", {"puzzle": ask_question(page), "answer": answer})["valid"]
    page.click("#back")
    assert page.inner_text("#count") == "step 8 of 8" and board(page) != answer
    assert "by the exact solver" in page.inner_text("#earned")
    page.click("#earned button")
    assert board(page) == answer


def test_contradictory_givens_are_marked_before_anything_thinks(server, visit):
    page = visit(server.url)
    asked = []
    page.on("request", lambda r: asked.append(r.url.rsplit("/", 1)[-1]))
    page.fill("#text", "1..1" + BLANK[4:])
    page.wait_for_selector("#verdict[data-kind=clash]")
    assert marked(page, "wrong") == [0, 3] and "1 stands twice in row 1" in page.inner_text("#verdict .faults")
    assert "Contradiction" in page.inner_text("#live") and "think" not in asked
    assert "breaks a rule" in page.get_attribute("[data-cell='3']", "aria-label")
    assert solve(page) == "unknown"
    assert "contradicts itself" in page.inner_text("#verdict .what") and page.locator("#offers").is_hidden()
    page.click("[data-cell='3']")
    page.keyboard.press("2")
    page.wait_for_selector("#verdict[data-kind=idle]")
    assert marked(page, "wrong") == []


def test_an_error_keeps_the_board_and_speaks_of_it(server, visit, examples):
    page = visit(server.url, expect=("400",))
    page.click("#examples button:nth-child(3)")
    solve(page)
    answer, verdict = board(page), page.inner_text("#verdict")
    page.fill("#depth", "100000")
    page.click("#solve")
    page.wait_for_selector("#trouble:visible")
    assert board(page) == answer and page.inner_text("#verdict") == verdict
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    page.fill("#text", "12")
    page.click("#solve")
    page.wait_for_selector("#text[aria-invalid=true]")
    assert page.inner_text("#problem") == "2 of 16 cells: 14 missing. The board still shows the last puzzle."
    assert board(page) == answer and asked == [], "nothing was sent"
    assert page.evaluate("document.activeElement.id") == "text"


def test_a_pasted_line_becomes_rows(server, visit, examples):
    page = visit(server.url)
    line = examples[4]
    rows = "\n".join(line[i : i + 4] for i in range(0, 16, 4))
    for text in (line, " ".join(line), ",".join(line.replace(".", "0")), line[:8] + "\n----+----\n" + line[8:]):
        page.fill("#text", "")
        page.focus("#text")
        page.keyboard.insert_text(text)
        page.locator("#text").dispatch_event("change")
        assert page.input_value("#text") == rows and board(page) == line
    page.fill("#text", "")
    page.focus("#text")
    page.keyboard.insert_text(line)
    assert page.input_value("#text") == rows, "at once"
    page.keyboard.press("Backspace")
    assert page.input_value("#text") == rows[:-1], "and the caret stays behind what was put in"


def test_words_are_explained_where_they_stand(server, visit):
    page = visit(server.url)
    solve(page, depth=8, width=3)
    rated = page.inner_text("#which")
    assert rated.startswith("Example ") and "difficulty 0: guesses that a plain search makes" in rated
    assert page.inner_text("#halting-rated").strip() == "Difficulty: guesses that a plain search makes."
    tracks = page.locator("#tracks text.name").all_text_contents()
    assert {"changed", "residual", "belief"} <= set(tracks)
    assert page.locator("#meaning b").all_inner_texts() == tracks and "halting head" in page.inner_text("#meaning")
    assert page.inner_text("#scored").startswith("Score: minus the steps")
    names = page.locator(".track > span:not(.note)").all_inner_texts()
    assert names == [f"trajectory {k}" for k in (1, 2, 3)]
    page.fill("#text", BLANK)
    assert page.inner_text("#which") == "A puzzle of your own."


def test_without_different_ratings_no_example_is_easy_or_hard(server, visit):
    page = visit(server.url + "#model=maze")
    assert page.locator("#ends").is_visible() and "hard" in page.get_attribute("#examples", "aria-label")
    detail = ask(server, "v1/models/maze")
    for rating in (None, 0.0):
        detail["examples"] = [e | {"rating": rating} for e in detail["examples"]]
        text = json.dumps(detail)
        page.route(
            "**/v1/models/maze", lambda route, _, text=text: route.fulfill(body=text, content_type="application/json")
        )
        page.reload()
        page.wait_for_selector("#board [data-cell='120']")
        assert page.locator("#ends").is_hidden() and page.get_attribute("#examples", "aria-label") == "examples"
        assert ("difficulty" in page.inner_text("#which")) == (rating is not None)
        page.unroute("**/v1/models/maze")


# -- what lies where ---------------------------------------------------------------------------------------------------

OVERLAPS = """() => [...document.querySelectorAll('svg.chart')].flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  const told = [...svg.querySelectorAll('text')].filter((t) => t.textContent && t.checkVisibility())
    .map((t) => [t.textContent, t.getBoundingClientRect()]);
  const out = told.filter(([, r]) => r.left < frame.left - 1 || r.right > frame.right + 1).map(([t]) => 'out: ' + t);
  const over = told.flatMap(([a, r], i) => told.slice(i + 1)
    .filter(([, q]) => Math.min(r.right, q.right) - Math.max(r.left, q.left) > 1
      && Math.min(r.bottom, q.bottom) - Math.max(r.top, q.top) > 3).map(([b]) => `${a} / ${b}`));
  return [...out, ...over];
}).concat([...document.querySelectorAll('figure.card')].filter((f) => f.checkVisibility()).flatMap((f) => {
  const [title, savers] = ['h3', '.savers'].map((name) => f.querySelector(name));
  const range = document.createRange();
  range.selectNodeContents(title);
  return savers && range.getBoundingClientRect().right > savers.getBoundingClientRect().left
    ? ['title of ' + f.id] : [];
}))"""


def crowded(detail):
    """The same model with curves that leave little room."""
    row = detail["curves"]["depth"][0]
    depths = (1, 2, 3, 4, 7, 8, 16, 30, 32, 64, 1000, 1024)
    slot = detail["curves"]["modules"][0]
    names = ("z", "a module with a long name", "high")
    curves = {
        "depth": [row | {"depth": d, "width": w, "halting": False} for d in depths for w in (1, 2, 64, 100)],
        "halting": [{"steps": 1 + i % 40, "rating": 1000.5 + i * 7, "right": i % 3 > 0} for i in range(200)],
        "modules": [slot | {"slot": name} for name in names],
    }
    return detail | {"trained_depth": 1, "curves": detail["curves"] | curves, "measuring": False}


def test_labels_never_overlap(server, visit):
    page = visit(server.url)
    text = json.dumps(crowded(ask(server, "v1/models/sudoku4")))
    page.route("**/v1/models/sudoku4", lambda route, _: route.fulfill(body=text, content_type="application/json"))
    page.reload()
    solve(page, depth=16, width=3)
    page.wait_for_selector("#halting-figure svg.chart")
    for width in (320, 390, 768, 1280, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        for k in range(3):
            page.locator(".track").nth(k).click()
            assert page.evaluate(OVERLAPS) == [], (width, k)


def test_on_a_phone_the_picker_is_beside_the_board_and_nothing_is_void(server, visit):
    page = visit(server.url, viewport={"width": 390, "height": 844})

    def edges(name):
        box = page.locator(name).bounding_box()
        return box["y"], box["y"] + box["height"]

    assert 0 <= edges("#board")[0] - edges("#picker")[1] < 40, "the picker stands right above the board"
    assert 0 <= edges("#verdict")[0] - edges(".controls")[1] < 40, "no room is kept for a thought that is not there"
    assert edges("#examples")[1] < 300 and edges("#solve")[1] < 844, "picker, board and button on one screen"

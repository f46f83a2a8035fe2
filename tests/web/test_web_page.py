"""The page in a real browser, against a real server, compared with what the API says."""

import csv
import json
import urllib.error

import pytest
from looking import BLANK, DIALS, ask, ask_question, board, marked, solve, turn

from innerloop import cli

pytestmark = pytest.mark.slow  # a browser, and a model that is trained for it


# -- seeing ------------------------------------------------------------------------------------------------------------


def test_it_paints_at_once(server, visit):
    page = visit(server.url)
    times = []
    for _ in range(3):  # the best of three: others work on this machine
        page.reload()
        page.wait_for_selector("#solve:enabled")
        times += page.evaluate("performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)")
    assert min(times) < 1000, times
    assert "Watch it think" in page.inner_text("h1") and "4×4" in page.inner_text("#about")


def test_solving_shows_what_the_api_says(server, visit, examples, thought):
    _, done = thought
    answer = ask(server, "v1/models/sudoku4/solve", {"puzzle": examples[2], **DIALS})
    page = visit(server.url)
    page.click("#examples button:nth-child(3)")
    assert board(page) == examples[2]
    kind = solve(page)
    assert kind == "good" and answer["known"] and answer["valid"], "this model solves 4x4 Sudokus"
    assert board(page) == answer["answer"] == done["solution"]["answer"]
    assert answer["why"].lower() in page.inner_text("#verdict .why").lower()
    assert page.inner_text("#cost-steps") == str(answer["steps"]) and page.inner_text("#cost-nfe") == str(answer["nfe"])
    assert page.inner_text("#cost-width") == str(answer["width"])
    assert page.inner_text("#count") == f"step {answer['steps']} of 8"
    assert page.inner_text("#live").startswith("Verified. Every rule")
    won = page.locator(".track").nth(answer["trajectory"])
    assert won.get_attribute("aria-pressed") == "true" and "answer" in won.get_attribute("aria-label")
    assert page.locator(".track").count() == 3 and page.locator("#latent-figure .route").count() == 3


def test_every_step_is_the_streams(server, visit, thought):
    steps, _ = thought
    page = visit(server.url)
    page.click("#examples button:nth-child(3)")
    solve(page)
    slide = "(s, t) => { s.value = t; s.dispatchEvent(new Event('input')); }"
    for k in range(3):
        page.locator(".track").nth(k).click()
        for t in (1, 2, 5, 8):
            page.locator("#scrubber").evaluate(slide, t)
            step = steps[k][t - 1]
            assert board(page) == step["answer"]
            assert marked(page, "ring") == step["changed"] and marked(page, "wrong") == step["wrong"]
            unsure = marked(page, "haze")
            assert all(step["certainty"][i] < 1 for i in unsure)
            given = {i for i in range(16) if page.get_attribute(f"[data-cell='{i}']", "aria-label").endswith("given")}
            far = {i for i in range(16) if step["certainty"][i] < 0.99} - given
            assert far <= set(unsure)
        halt = next((s["step"] for s in steps[k] if s["would_halt"]), None)
        flags = page.locator("#tracks .flag.halt text").all_inner_texts()
        assert flags == ([f"would halt, {halt}"] if halt else [])


def test_keys_play_step_and_jump(server, visit, thought):
    steps, done = thought
    k = done["solution"]["trajectory"]
    page = visit(server.url)
    page.click("#examples button:nth-child(3)")
    solve(page)
    page.click("h1")
    keys = ("Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight")
    for key, step in zip(keys, (0, 1, 2, 1, 8, 8), strict=True):
        page.keyboard.press(key)
        assert page.inner_text("#count") == (f"step {step} of 8" if step else "the puzzle")
        assert board(page) == (steps[k][step - 1]["answer"] if step else ask_question(page))
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    assert page.get_attribute("#play", "aria-label") == "pause"
    page.keyboard.press("Space")
    assert page.get_attribute("#play", "aria-label") == "play"
    page.keyboard.press("ArrowRight")
    while page.inner_text("#count") != f"step {done['solution']['steps'] + 1} of 8":
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.wait_for_selector("#count:text-is('step 8 of 8')")
    page.wait_for_selector("#play[aria-label=play]")
    assert page.get_attribute("#play", "aria-label") == "play", "it stops at the end"
    page.focus("#scrubber")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#count") == "step 7 of 8", "the slider and the page's keys do not both step"
    page.click("#first")
    assert page.inner_text("#count") == "the puzzle"
    box = page.locator("#tracks").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 14, box["y"] + 12)
    assert page.inner_text("#count") == "step 8 of 8", "a click on the timeline goes there"


def test_it_plays_by_itself_and_can_be_stopped(server, visit):
    page = visit(server.url, reduced_motion="no-preference")
    turn(page, depth=1000, width=4)
    page.click("#solve")
    page.wait_for_selector("#count:text-matches('step [0-9]+ of 1000')")
    assert page.inner_text("#solve") == "Stop"
    page.click("#solve")
    page.wait_for_selector("#solve:text-is('Solve')")
    assert page.inner_text("#verdict .what") == "No answer."
    page.click("h1")
    page.keyboard.press("End")
    assert int(page.inner_text("#count").split()[1]) > 0, "what was thought until then can be looked at"


def test_reduced_motion_goes_straight_to_the_answer(server, visit):
    page = visit(server.url)
    solve(page)
    assert page.get_attribute("#play", "aria-label") == "play"
    moves = "getComputedStyle(document.querySelector('#verdict .what'), '::before').animationName"
    assert page.evaluate(moves) == "none"


def test_what_is_known_of_the_model(server, visit):
    detail = ask(server, "v1/models/sudoku4")
    page = visit(server.url)
    for name in ("depth", "width", "halting", "modules"):
        page.wait_for_selector(f"#{name}-figure svg.chart")
    rows = [r for r in detail["curves"]["depth"] if not r["halting"]]
    told = page.get_attribute("#depth-figure svg.chart", "aria-label")
    assert rows and all(f"{100 * r['exact']:.{1 if 0 < r['exact'] < 1 else 0}f} %" in told for r in rows)
    assert page.locator("#modules-figure rect.area").count() == len(detail["curves"]["modules"]) > 0
    assert page.locator("#trust-figure").is_hidden(), "nothing was calibrated"
    assert detail["born"]["command"] in page.text_content("#born")


# -- putting in --------------------------------------------------------------------------------------------------------


def test_click_type_and_move(server, visit):
    page = visit(server.url)
    page.click("#clear")
    assert board(page) == BLANK
    page.click("[data-cell='5']")
    page.keyboard.press("3")
    assert board(page) == BLANK[:5] + "3" + BLANK[6:]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("4")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("1")
    assert board(page) == ".....34...1....." and ask_question(page) == ".....34...1....."
    page.keyboard.press("Backspace")
    assert board(page) == ".....34........."
    page.click("#keypad button:has-text('2')")
    assert board(page) == ".....34...2....."
    page.keyboard.press("x")
    assert board(page) == ".....34...2.....", "what is no symbol changes nothing"
    page.focus("#board")
    page.keyboard.press("Escape")
    assert page.locator("#board .cursor").count() == 0


def test_arrows_edit_while_a_cell_is_selected(server, visit):
    page = visit(server.url)
    solve(page)
    step = page.inner_text("#count")
    page.click("[data-cell='0']")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#board", "aria-activedescendant").endswith("c1") and page.inner_text("#count") == step
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#count") != step


def test_paste_into_field_and_board(server, visit, examples):
    page = visit(server.url)
    page.fill("#text", examples[4][:8] + "\n" + examples[4][8:] + "\n")
    assert board(page) == examples[4]
    page.fill("#text", examples[5].replace(".", "0"))
    assert board(page) == examples[5], "zeros are blanks"
    page.click("h1")
    page.evaluate(
        """text => { const data = new DataTransfer(); data.setData('text', text);
        document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true})); }""",
        examples[6],
    )
    assert board(page) == examples[6] and ask_question(page) == examples[6]


def test_a_bad_puzzle_is_told_by_its_field(server, visit):
    page = visit(server.url)
    for text in ("1234", "12z4" + BLANK[4:], "1" * 20):
        page.fill("#text", text)
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(server, "v1/models/sudoku4/think", {"puzzle": text, **DIALS})
        assert page.inner_text("#problem") == json.loads(refused.value.read())["error"], "as the server says it"
        assert page.get_attribute("#text", "aria-invalid") == "false"
    assert "4 too many" in page.inner_text("#problem")
    page.fill("#text", BLANK)
    assert page.inner_text("#problem") == "" and page.get_attribute("#text", "aria-invalid") == "false"


def test_dials_reach_the_server_and_their_errors_are_told(server, visit):
    page = visit(server.url, expect=("400", "422"))
    page.fill("#depth", "5")
    page.select_option("#pick", "vote")
    page.click("summary:has-text('Noise')")
    page.fill("#start", "0.25")
    page.uncheck("#views")
    with page.expect_request("**/think") as sent:
        page.click("#solve")
    body = sent.value.post_data_json
    assert (body["depth"], body["pick"], body["noise"], body["views"]) == (5, "vote", [0.25, 0], False)
    page.wait_for_selector("#verdict:is([data-kind=good], [data-kind=unknown], [data-kind=fair])")
    assert page.locator("#trouble").is_hidden()
    page.fill("#depth", "100000")
    page.click("#solve")
    page.wait_for_selector("#trouble:visible")
    assert "depth" in page.inner_text("#trouble p") and page.get_attribute("#text", "aria-invalid") == "false"
    page.fill("#depth", "4")
    assert float(page.input_value("#depth-slider")) == 4.0, "the slider follows: two notches double"


def test_another_model_and_a_link_to_it(server, visit, maze):
    page = visit(server.url)
    page.select_option("#models", "maze")
    page.wait_for_selector("#board [data-cell='120']")
    assert page.locator("#board .colour").count() > 40, "walls are coloured"
    turn(page, depth=3, width=2)
    page.click("#solve")
    page.wait_for_selector("#verdict[data-kind=unknown]")
    assert page.inner_text("#verdict strong") == "I don’t know"
    text = ask_question(page)
    page.goto(page.url)
    page.reload()
    page.wait_for_selector("#board [data-cell='120']")
    assert ask_question(page) == text and page.input_value("#models") == "maze"


# -- taking home -------------------------------------------------------------------------------------------------------


def fetch(page, selector):
    with page.expect_download() as begun:
        page.click(selector)
    return begun.value.suggested_filename, begun.value.path().read_bytes()


def test_exports(server, visit, thought):
    steps, _ = thought
    page = visit(server.url)
    page.click("#examples button:nth-child(3)")
    solve(page)
    name, body = fetch(page, "#csv")
    rows = list(csv.DictReader(body.decode().splitlines()))
    assert name == "sudoku4-steps.csv" and len(rows) == 3 * 8
    for row, step in zip(rows, [s for track in steps for s in track], strict=True):
        assert (row["trajectory"], row["step"]) == (str(step["trajectory"]), str(step["step"]))
        assert row["answer"] == step["answer"] and row["changed"] == str(len(step["changed"]))
        assert float(row["residual"]) == pytest.approx(step["residual"]) and row["valid"] == str(step["valid"]).lower()
    name, body = fetch(page, "#middle [data-save=svg]")
    assert name.endswith(".svg") and body.startswith(b"<svg") and b"class=" not in body and b"var(" not in body
    alone = page.context.new_page()  # one without this page's policy
    alone.set_content(f"<body style='margin:0'>{body.decode()}")
    assert alone.locator("svg text").count() == 16 and alone.locator("svg text").first.bounding_box()["width"] > 3
    alone.close()
    page.wait_for_selector("#depth-figure svg.chart")
    name, body = fetch(page, "#depth-figure [data-save=png]")
    assert name == "sudoku4-depth-figure.png" and body.startswith(b"\x89PNG")
    assert int.from_bytes(body[16:20], "big") >= 1000, "wide enough to print"


def test_the_saved_page_is_the_thought_without_a_server(server, visit, thought, tmp_path):
    steps, done = thought
    page = visit(server.url)
    page.click("#examples button:nth-child(3)")
    solve(page)
    name, body = fetch(page, "#html")
    assert name == "sudoku4-thought.html"
    path = tmp_path / name
    path.write_bytes(body)
    other = visit(path.as_uri())
    assert other.locator("#solve").is_hidden() and other.get_attribute("#dials", "disabled") is not None
    assert "recording" in other.inner_text("#dials")
    k = done["solution"]["trajectory"]
    for t in (1, 4, 8):
        other.keyboard.press("Home")
        for _ in range(t):
            other.keyboard.press("ArrowRight")
        assert board(other) == steps[k][t - 1]["answer"]
    assert other.inner_text("#verdict strong") == page.inner_text("#verdict strong")
    assert other.inner_text("#which") == "The puzzle of this recording."
    assert other.input_value("#depth") == "8" and other.locator("#html").is_hidden()


def test_the_report_is_the_same_page(run, visit):
    assert cli.main(["report", str(run), "--depth", "6"]) == 0
    page = visit((run / "report.html").as_uri())
    kept = json.loads(page.text_content("#data"))
    assert page.inner_text("h1") == "sudoku4" and page.locator("#solve").is_hidden()
    for i, thought in enumerate(kept["thoughts"]):
        page.click(f"#examples button:nth-child({i + 1})")
        assert board(page) == thought["done"]["solution"]["answer"], "a report opens on the answer"
        assert page.get_attribute("#verdict", "data-kind") == "good" and page.locator("#earned").is_hidden()
        page.click("h1")
        page.keyboard.press("Home")
        assert board(page) == thought["request"]["puzzle"]
        assert page.get_attribute("#verdict", "data-elsewhere") == "yes"
        page.keyboard.press("End")
        k = thought["done"]["solution"]["trajectory"]
        assert board(page) == [s["answer"] for s in thought["steps"] if s["trajectory"] == k][-1]
        assert page.inner_text("#cost-nfe") == f"{thought['done']['solution']['nfe']:,}"
    page.wait_for_selector("#learning-figure svg.chart")
    page.wait_for_selector("#modules-figure .whisker")
    assert "plan.steps" in page.text_content("#trained") and "innerloop serve" in page.text_content("#commands")

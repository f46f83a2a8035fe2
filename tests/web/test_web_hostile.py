"""Text that wants to be a program, in every field that a page shows: in a report from a disk and from a server."""

import json
import shlex
import shutil

import pytest

from innerloop import cli, pretrained
from innerloop.export.hub import save_folder

pytestmark = pytest.mark.slow  # a browser

HOSTILE = [
    "'); } window.__x = 1; async function zz() { const page = document.title; return page.replace('",
    "</script><script>window.__x = 1</script><!--<script>",
    "<img src=x onerror='window.__x = 1'>",
    "`${window.__x = 1}` \u2028 \u202e \" ' \\ &lt;",
]
KEPT = {
    "system",
    "task",
    "charset",
    "pad",
    "blank",
    "glyphs",
    "colours",
    "question",
    "answer",
    "puzzle",
    "rules",
    "rule",
}
KEPT |= {"pick", "source", "noise", "end"}  # words of the page's own, and boards: other text breaks the drawing alone


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A run in which all that is free text is hostile, in a folder whose name is."""
    folder = tmp_path_factory.mktemp("odd") / "bob's '); window.__x = 1; ('<b>run<"
    save_folder(pretrained.open("demo-sudoku4"), folder)
    said = json.loads((folder / "run.json").read_text())
    said["run"] |= {"about": HOSTILE[0]}
    said["born"] = {f"key {text}": text for text in HOSTILE}
    (folder / "run.json").write_text(json.dumps(said))
    row = {"depth": 4, "width": 1, "halting": False, "exact": 0.5, "low": 0.4, "high": 0.6, "steps": 4, "nfe": 4.0}
    born = {"command": HOSTILE[1], HOSTILE[2]: HOSTILE[3], "seeds": HOSTILE}
    odd_rows = [row, row | {"exact": HOSTILE[0]}, HOSTILE[1]]
    (folder / "eval.json").write_text(json.dumps({"rows": odd_rows, "born": born, "data": HOSTILE[2]}))
    slot = {"plain": 2.0, "corrected": 1.5, "low": 1, "high": 2, "effective_rank": 3}
    trained = {HOSTILE[1]: [slot], HOSTILE[2]: [HOSTILE[3]]}
    (folder / "study.json").write_text(json.dumps({"dimension": {"trained": trained}}))
    result = {"born": born, "leakage": HOSTILE[1], "warnings": HOSTILE, "best": {"step": HOSTILE[0]}, "seconds": "x"}
    (folder / "result.json").write_text(json.dumps(result))
    lines = [
        {"step": 1, "train/exact_accuracy": 0.5},
        {"step": HOSTILE[0], HOSTILE[1]: 1},
        {"step": 2, "valid/exact@8": 1},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def report(odd, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert cli.main(["report", str(odd), "--depth", "4", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def told(report):
    """The data in it."""
    return json.loads(report.read_text().split('id="data">', 1)[1].split("</script>", 1)[0])


def changed(value, text, key=""):
    """The data of a page with `text` in place of every free text."""
    if isinstance(value, dict):
        return {k: v if k in KEPT else changed(v, text, k) for k, v in value.items()}
    if isinstance(value, list):
        return [changed(v, text, key) for v in value]
    return text if isinstance(value, str) else value


def test_a_report_of_a_hostile_run_is_a_page_like_any_other(odd, report, told, visit):
    page = visit(report.as_uri())
    assert page.evaluate("window.__x") is None and page.inner_text("h1") == odd.name
    assert json.loads(page.text_content("#data")) == told
    assert HOSTILE[1] in page.text_content("#born") and HOSTILE[3] in page.text_content("#born")
    assert "rows of eval.json" in page.text_content("#born")
    assert shlex.quote(str(odd)) in page.text_content("#commands"), "commands can be pasted into a shell"
    page.wait_for_selector("#depth-figure svg.chart")
    page.wait_for_selector("#learning-figure svg.chart")


@pytest.mark.parametrize("text", HOSTILE, ids=["string", "element", "image", "template"])
def test_no_field_of_a_report_is_run(told, visit, tmp_path, text):
    from innerloop import web

    data = changed(told, text)
    (tmp_path / "all.html").write_text(web.standalone(data))
    page = visit((tmp_path / "all.html").as_uri())
    assert page.inner_text("h1") and page.text_content("h1") == text
    page.click("h1")
    page.keyboard.press("End")
    assert page.evaluate("window.__x") is None and page.locator("img, script[src]").count() == 0
    assert json.loads(page.text_content("#data")) == data


def test_a_script_that_gets_in_is_not_run(odd, report, visit, tmp_path):
    """The page's policy holds where all else fails."""
    inside = "<script>window.__x = 1</script><img src='data:,' onerror='window.__x = 2'>"
    out = tmp_path / "report.html"
    out.write_text(report.read_text().replace("</header>", f"</header>{inside}"))
    page = visit(out.as_uri(), expect=("Content Security Policy", "violates"))
    assert page.evaluate("window.__x") is None and page.inner_text("h1") == odd.name


def test_a_hostile_run_is_served_and_saved_like_any_other(odd, serve, visit, tmp_path):
    shutil.copytree(odd, tmp_path / "copy's")
    server = serve(f"odd={tmp_path / chr(99)}opy's")
    page = visit(server.url)
    page.fill("#depth", "4")
    page.click("#solve")
    page.wait_for_selector("#verdict:is([data-kind=good], [data-kind=fair], [data-kind=unknown])")
    assert HOSTILE[3] in page.text_content("#born") and page.evaluate("window.__x") is None
    with page.expect_download() as begun:
        page.click("#html")
    saved = tmp_path / "saved.html"
    saved.write_bytes(begun.value.path().read_bytes())
    other = visit(saved.as_uri())
    assert other.inner_text("h1") == "odd" and other.evaluate("window.__x") is None
    assert other.evaluate("JSON.parse(document.getElementById('data').textContent).model.about") == HOSTILE[0]

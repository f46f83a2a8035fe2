"""The README: its Python is run, its links lead somewhere, it is short. For commands: test_printed_commands.py."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name != "log.md")]


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.S)


@pytest.mark.parametrize("i", range(len(blocks(PAGES[0], "python"))))
def test_readme_python_runs(i, capsys):
    exec(compile(blocks(PAGES[0], "python")[i], "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_example_of_the_docs_is_the_file():
    assert blocks(ROOT / "docs/add_a_system.md", "python")[0] == (ROOT / "examples/my_loop.py").read_text()


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http") and not target.endswith((".svg", ".png")):
                assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_readme_is_short():
    assert len(PAGES[0].read_text().splitlines()) <= 235  # 200 before the tables by difficulty and of ways to think

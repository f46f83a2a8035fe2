"""The pages that are generated are what their commands print."""

from pathlib import Path

from innerloop.cli.catalogue import page

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_of_systems_is_what_list_shows():
    assert (ROOT / "docs" / "systems.md").read_text() == page(), "run: innerloop list --markdown > docs/systems.md"

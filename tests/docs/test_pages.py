"""What the pages say of this repository is there: links, folders, targets of make."""

import re
import subprocess

import pytest
import yaml

from tests.docs.pages import PAGES, README
from tests.support.server import ROOT

FOLDERS = r"^\| `(\w+[./][\w/.]*)` \|"
LINKS = sorted({(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(([^)\s]+)\)", text)})
TARGETS = {target for text in PAGES.values() for target in re.findall(r"(?m)(?:^|`|=\d+ )make ([a-z][a-z0-9-]*)", text)}


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```$", "", text))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_newcomer_reads_250_lines_at_most() -> None:
    assert len(PAGES[README].splitlines()) <= 250


def test_the_readme_names_every_page() -> None:
    assert {link for page, link in LINKS if page == README} >= set(PAGES) - {README}


@pytest.mark.parametrize(("page", "link"), [(page, link) for page, link in LINKS if "://" not in link])
def test_a_link_leads_somewhere(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    if anchor:
        assert anchor in anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("page", "name"), [(page, name) for page, text in PAGES.items() for name in re.findall(FOLDERS, text, re.MULTILINE)]
)
def test_a_folder_that_is_named_exists(page: str, name: str) -> None:
    assert (ROOT / name).exists()


def test_every_make_command_names_a_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"serve", "test"} <= TARGETS <= set(re.findall(r"make (\S+)", listed))


def test_the_configured_split_is_the_one_the_readme_names() -> None:
    assert "Four of five answers come from `v1`" in PAGES[README]
    serving_yaml = yaml.safe_load((ROOT / "configuration" / "serving.yaml").read_text(encoding="utf-8"))
    assert serving_yaml["environments"]["production"]["weights"] == {"v1": 80, "v2": 20}

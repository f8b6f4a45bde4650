"""What the page looks like on a desktop, a phone, in the dark and on paper: pictures that people have looked at.

Pictures are the same to the bit only with the same browser and the same fonts, which ``made_with.txt`` names. With others,
nothing is compared. UPDATE_GOLDEN=1 writes them anew: look at them before you commit them.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafixes.report.html import to_html
from tests.browser.chromium import Browser, find, running
from tests.unit import report_samples as samples
from tests.unit.golden import GOLDEN

PROGRAM = find()
PICTURES = GOLDEN / "pages"
MADE_WITH = PICTURES / "made_with.txt"
LOOKS: dict[str, tuple[int, int, dict[str, str]]] = {
    "desktop": (1400, 900, {}),
    "dark": (1400, 900, {"prefers_color_scheme": "dark"}),
    "phone": (375, 1200, {}),
    "print": (1047, 720, {}),
}
FONTS = """['system-ui, "DejaVu Sans"', 'ui-monospace, "DejaVu Sans Mono"'].map(font => {
    const pen = document.createElement('canvas').getContext('2d'); pen.font = '100px ' + font;
    return pen.measureText('The quick brown fox 0123456789 ✓✗…').width })"""
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium here: apt install chromium, or set CHROMIUM"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running(PROGRAM or "", tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", ["plan", "long_texts"])
def test_it_looks_as_reviewed(browser: Browser, tmp_path: Path, name: str, look: str) -> None:
    made_with = json.dumps([browser.ask("Browser.getVersion")["product"], browser.run(FONTS)])
    if os.environ.get("UPDATE_GOLDEN"):
        PICTURES.mkdir(exist_ok=True)
        MADE_WITH.write_text(f"{made_with}\n", encoding="utf-8")
    elif made_with != MADE_WITH.read_text(encoding="utf-8").strip():
        pytest.skip("the pictures were made with another browser or other fonts")
    page = tmp_path / "page.html"
    page.write_text("".join(to_html(getattr(samples, name)())), encoding="utf-8")
    width, height, features = LOOKS[look]
    browser.look(width, height, 1, **features)
    browser.load(page)
    if look == "print":
        browser.ask("Emulation.setEmulatedMedia", media="print")
    picture = tmp_path / "page.webp"
    browser.picture(picture, whole=False)
    browser.ask("Emulation.setEmulatedMedia", media="")
    reviewed = PICTURES / f"{name}_{look}.webp"
    if os.environ.get("UPDATE_GOLDEN"):
        reviewed.write_bytes(picture.read_bytes())
    assert picture.read_bytes() == reviewed.read_bytes(), f"compare {picture} with {reviewed}"

"""The page in a real browser: nothing runs, nothing is asked for, it fits a phone, and large runs stay quick."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from datafixes.report.document import Document
from datafixes.report.html import to_html
from tests.browser.chromium import Browser, find, running
from tests.unit import report_samples as samples

PROGRAM = find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium here: apt install chromium, or set CHROMIUM"
)

# What is left to do after a change, until the next picture is on the screen.
PAINTED = "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(true))))"
MEASURED = """(async () => {{ const started = performance.now(); {act}; await {until}; await {painted};
    return performance.now() - started }})()"""
FILTER = """const input = document.querySelector('input'); input.value = '{words}'; input.dispatchEvent(new Event('input'))"""
TOLD = "document.querySelector('output').textContent"
KEYS = "[...document.querySelectorAll('table')[0].tBodies[0].rows].map(row => row.cells[0].textContent)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running(PROGRAM or "", tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def load(browser: Browser, tmp_path: Path) -> Iterator[Browser]:
    """A browser with a usual window."""
    browser.look(1280)
    yield browser
    browser.ask("Emulation.setScriptExecutionDisabled", value=False)


def put(browser: Browser, document: Document, tmp_path: Path) -> float:
    file = tmp_path / "page.html"
    file.write_text("".join(to_html(document)), encoding="utf-8")
    return browser.load(file)


def test_hostile_values_run_nothing_and_ask_for_nothing(load: Browser, tmp_path: Path) -> None:
    put(load, samples.hostile(), tmp_path)
    # Everything that a person could do, too.
    load.run("document.querySelectorAll('button').forEach(button => button.click())")
    load.run(FILTER.format(words="script"))
    load.run(
        "document.querySelectorAll('td, th, a').forEach(e => { e.dispatchEvent(new MouseEvent('mouseover')) })"
    )
    load.run(PAINTED)
    assert load.run("typeof window.owned") == "undefined"
    assert load.requests == [(tmp_path / "page.html").as_uri()]
    assert load.complaints == []
    assert load.run("document.querySelectorAll('script, img, style, form, iframe').length") == 2
    shown = load.run("document.querySelector('table.changes').textContent")
    assert "<script>window.owned=1</script>" in shown
    assert "invoice\\u202egpj.exe" in shown


def test_the_policy_stops_what_would_slip_through(load: Browser, tmp_path: Path) -> None:
    page = "".join(to_html(samples.plan())).replace(
        "</main>", "<script>window.owned=1</script><img src=https://evil.example/x onerror=window.owned=1>"
        "<style>h1{color:red}</style><a id=l href='javascript:window.owned=1'>x</a></main>",
    )  # fmt: skip
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    load.load(file)
    load.run("document.getElementById('l').click()")
    load.run(PAINTED)
    assert load.run("typeof window.owned") == "undefined"
    assert load.run("getComputedStyle(document.querySelector('h1')).color") != "rgb(255, 0, 0)"
    assert load.requests[1:] == ["https://evil.example/x"]
    assert load.refused == ["csp"]
    assert len(load.complaints) >= 3


@pytest.mark.parametrize("name", ["plan", "refusal", "two_runs", "history"])
def test_it_fits_a_phone(load: Browser, tmp_path: Path, name: str) -> None:
    load.look(360, 740)
    put(load, getattr(samples, name)(), tmp_path)
    assert load.run("document.documentElement.scrollWidth") == 360
    assert load.complaints == []


def test_a_wide_run_fits_a_phone_as_cards_with_names(load: Browser, tmp_path: Path) -> None:
    load.look(360, 740)
    put(load, samples.many(3, 12), tmp_path)
    assert load.run("document.documentElement.scrollWidth") == 360
    assert load.run("getComputedStyle(document.querySelector('td.was'), '::after').content") == '"column_0"'


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(load: Browser, tmp_path: Path, scheme: str) -> None:
    load.look(1280, prefers_color_scheme=scheme)
    put(load, samples.plan(), tmp_path)
    ratios = load.run("""(() => {
      const parts = text => text.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
      const ground = e => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
        if (c.length < 4 || c[3] > 0) return c } return [255, 255, 255] };
      return ['h1', '.summary', 'dt', 'dd', '.fact.good dd', '.fact.attention dd', 'caption span', 'thead th', 'td.was', 'td.is',
              'td.same', 'td.kind', 'td.was i', 'footer p', 'code'].map(name => {
        const e = document.querySelector(name), one = light(parts(getComputedStyle(e).color)), other = light(ground(e));
        return [name, (Math.max(one, other) + .05) / (Math.min(one, other) + .05)] }) })()""")
    assert [(name, ratio) for name, ratio in ratios if ratio < 4.5] == []


def test_it_can_be_read_without_a_script(load: Browser, tmp_path: Path) -> None:
    load.ask("Emulation.setScriptExecutionDisabled", value=True)
    document = samples.many(450, 2)
    put(load, document, tmp_path)
    load.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert load.run("document.querySelectorAll('tbody tr').length") == 450
    assert load.run("document.querySelectorAll('button, input').length") == 0
    assert load.run("document.querySelectorAll('tbody tr')[449].checkVisibility()")


def test_sorting_says_so_and_comes_back(load: Browser, tmp_path: Path) -> None:
    put(load, samples.plan(), tmp_path)
    own = [str(key) for key in samples.KEYS]
    by_price = sorted(own, key=lambda key: float(samples.KEYS[int(key)]))
    click = "document.querySelector('th[data-at=\"9\"] button').click()"
    state = "document.querySelector('th[data-at=\"9\"]').getAttribute('aria-sort')"
    assert (load.run(KEYS), load.run(state)) == (own, "none")
    load.run(click)
    assert (load.run(KEYS), load.run(state)) == (by_price, "ascending")
    load.run(click)
    assert (load.run(KEYS), load.run(state)) == (by_price[::-1], "descending")
    load.run(click)
    assert (load.run(KEYS), load.run(state)) == (own, "none")


def test_what_assistive_technology_needs_is_there(load: Browser, tmp_path: Path) -> None:
    put(load, samples.plan(), tmp_path)
    assert load.run("[...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName)") == ["H1", "H2"]
    assert load.run("[...document.querySelectorAll('table')].every(t => t.caption.textContent.trim())")
    assert load.run("[...document.querySelectorAll('th')].every(th => th.scope)")
    assert load.run("document.documentElement.lang") == "en"
    assert load.run("[...document.querySelectorAll('input')].every(input => input.labels.length === 1)")
    signs = "getComputedStyle(document.querySelector('td.{}'), '::before').content"
    assert load.run(signs.format("was")) == '"−" / "before: "'
    assert load.run(signs.format("is")) == '"+" / "after: "'


def test_thirty_rows_are_above_the_fold(load: Browser, tmp_path: Path) -> None:
    """In a window of 1400 x 900; fonts differ a little between systems."""
    load.look(1400, 900)
    put(load, samples.thirty(), tmp_path)
    seen = "[...document.querySelectorAll('tbody tr')].filter(r => r.getBoundingClientRect().bottom <= 900).length"
    assert load.run(seen) >= 28
    below = "[...document.querySelectorAll('dt')].filter(t => t.getBoundingClientRect().top > 900).map(t => t.textContent)"
    assert {"Locks", "Digest"} <= set(load.run(below))


def test_a_change_inside_of_a_long_text_is_in_sight(load: Browser, tmp_path: Path) -> None:
    load.look(1400, 900)
    put(load, samples.long_texts(), tmp_path)
    marks = "[...document.querySelectorAll('mark')].map(m => [m.textContent, m.checkVisibility() && m.getBoundingClientRect().bottom < 900])"
    marked = ["19", '"late",', "0.19", "7", "new", "0.07"]
    assert sorted(load.run(marks)) == sorted([word, True] for word in marked)
    gaps = "[...document.querySelectorAll('td.was .gap')].map(g => g.innerText.trim() + g.textContent.length)"
    folded = load.run(gaps)
    load.run("document.querySelector('.gap summary').click()")
    assert load.run(gaps) != folded
    # all of the text is there, in its order
    [row] = samples.long_texts().sections[0].changes[0].rows
    assert row.cells[0].before is not None
    assert load.run("document.querySelector('td.was').textContent") == row.cells[0].before.text


def test_on_paper_nothing_is_cut(load: Browser, tmp_path: Path) -> None:
    cut = "[...document.querySelectorAll('td, th, dd, pre')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    for document in (samples.thirty(), samples.long_texts(), samples.many(3, 12), samples.refusal()):
        load.look(1047, 720)  # A4 landscape, without its margins
        put(load, document, tmp_path)
        load.ask("Emulation.setEmulatedMedia", media="print")
        assert load.run("document.documentElement.scrollWidth") <= 1047
        assert load.run(cut) == 0
        assert load.run("[...document.querySelectorAll('.gap')].every(g => g.innerText.trim().length > 20)")
        assert (
            load.run(
                "[...document.querySelectorAll('.gap summary, th button, input')].some(e => e.checkVisibility())"
            )
            is False
        )
        load.ask("Emulation.setEmulatedMedia", media="")


def test_on_paper_the_two_sides_of_a_wide_row_stand_side_by_side(load: Browser, tmp_path: Path) -> None:
    load.look(1047, 720)
    put(load, samples.many(3, 12), tmp_path)
    load.ask("Emulation.setEmulatedMedia", media="print")
    tops = "[...document.querySelectorAll('td.{}')].map(e => e.getBoundingClientRect().top)"
    assert load.run(tops.format("was")) == load.run(tops.format("is"))
    load.ask("Emulation.setEmulatedMedia", media="")


def test_a_large_run_stays_quick(load: Browser, tmp_path: Path) -> None:
    """Ten thousand rows of eight columns. The limits are for a busy machine; usually it is a third of a second."""
    assert put(load, samples.many(10_000, 8), tmp_path) < 5
    assert load.run(TOLD) == "10,000 rows, the first 200 shown"

    def measured(act: str, until: str = "true") -> float:
        return float(load.run(MEASURED.format(act=act, until=until, painted=PAINTED))) / 1000

    changed = f"(async () => {{ while (!{TOLD}.includes('of 10,000')) await new Promise(r => setTimeout(r, 5)) }})()"
    assert measured(FILTER.format(words="value 99"), changed) < 3
    assert load.run(TOLD).startswith("1,219 of 10,000 rows")
    assert measured("document.querySelector('th[data-at=\"2\"] button').click()") < 3
    prices = "[...document.querySelectorAll('tbody tr')].map(row => Number(row.cells[2].textContent))"
    found = load.run(prices)
    assert (len(found), found) == (200, sorted(found))
    load.run(FILTER.format(words="no such row"))
    load.run(
        f"(async () => {{ while (!{TOLD}.startsWith('0 of')) await new Promise(r => setTimeout(r, 5)) }})()"
    )
    assert load.run(KEYS) == []


def test_paper_shows_what_the_window_leaves_for_later(load: Browser, tmp_path: Path) -> None:
    put(load, samples.many(300, 2), tmp_path)
    assert load.run("document.querySelectorAll('tbody tr').length") == 200
    load.run("dispatchEvent(new Event('beforeprint'))")
    assert load.run("document.querySelectorAll('tbody tr').length") == 300
    load.run("dispatchEvent(new Event('afterprint'))")
    assert load.run("document.querySelectorAll('tbody tr').length") == 200
    load.ask("Emulation.setEmulatedMedia", media="print")
    hidden = "[...document.querySelectorAll('input, .on, .tools label')].every(e => !e.checkVisibility())"
    assert load.run(hidden)
    assert load.run("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"
    load.ask("Emulation.setEmulatedMedia", media="")
    assert load.paper().startswith(b"%PDF-")

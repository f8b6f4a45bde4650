"""A document as a page, as far as it can be judged without a browser."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from datafixes.report.document import Cell, Changes, Document, Fact, Row, Section, Value
from datafixes.report.html import to_html
from tests.unit import report_samples as samples
from tests.unit.golden import compare

EMPTY = {"meta", "input", "br", "link", "img"}


class Tags(HTMLParser):
    """The tags of a page, and whether each is closed in its place."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def inside(page: str, tag: str) -> list[str]:
    return re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)


def page_of(*cells: Cell, total: int = 1) -> str:
    return "".join(
        to_html(
            Document(
                "x", sections=(Section("s", changes=(Changes("t", (Row("1", "updated", cells),), total),)),)
            )
        )
    )


@pytest.mark.parametrize("name", ["plan", "refusal", "history"])
def test_it_reads_as_reviewed(name: str) -> None:
    [body] = inside("".join(to_html(getattr(samples, name)())), "main")
    compare(f"report_{name}.html", body.strip() + "\n")


@pytest.mark.parametrize("name", ["plan", "refusal", "hostile", "two_runs"])
def test_it_is_well_formed_and_names_nothing_outside(name: str) -> None:
    tags = Tags("".join(to_html(getattr(samples, name)())))
    assert tags.open == []
    loading = {"src", "srcset", "action", "formaction", "data", "poster", "background", "style", "ping"}
    assert [(tag, attributes) for tag, attributes in tags.seen if loading & set(attributes)] == []
    assert [name for _, attributes in tags.seen for name in attributes if name.startswith("on")] == []
    assert {tag for tag, _ in tags.seen} & {
        "link",
        "img",
        "iframe",
        "object",
        "base",
        "form",
        "template",
    } == set()
    own = r"#part-\d+|https://tickets\.example/OPS-1234"
    assert [a["href"] for _, a in tags.seen if "href" in a and not re.fullmatch(own, a["href"] or "")] == []
    assert sum(tag == "script" for tag, _ in tags.seen) == 1


def test_only_its_own_style_and_script_may_run() -> None:
    page = "".join(to_html(samples.hostile()))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#39;", "'").split(";"))
    [style], [script] = inside(page, "style"), inside(page, "script")

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'", "style-src": digest(style), "script-src": digest(script),
        "img-src": "'none'", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert "</" not in style
    assert not re.search(r"https?:|url\(|@import|innerHTML|eval\(|fetch\(", style + script)


def test_nothing_unseen_is_in_it() -> None:
    page = "".join(to_html(samples.hostile()))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    page.encode("utf-8")


def test_each_value_is_itself() -> None:
    page = page_of(
        samples.cell("a", None, "NULL"), samples.cell("b", "", "x"), samples.cell("c", "same", "same")
    )
    assert '<td class="was" data-name="a"><i>NULL</i></td><td class="is">&#x27;NULL&#x27;</td>' in page
    assert '<td class="was" data-name="b">&#x27;&#x27;</td><td class="is">x</td>' in page
    assert '<td class="same" colspan="2" data-name="c">same</td>' in page
    assert "<i>(masked)</i>" in page_of(Cell("d", Value(None, masked=True), Value(None, masked=True)))


def test_in_long_values_the_difference_is_marked() -> None:
    long = "x" * 200
    page = page_of(samples.cell("doc", f"{long}one{long}", f"{long}two{long}"))
    folded, shown = f'<details class="gap"><summary data-of="140"></summary>{long[:140]}</details>', long[:60]
    assert f"{folded}{shown}<mark>one</mark>{shown}{folded}" in page
    assert f"{folded}{shown}<mark>two</mark>{shown}{folded}" in page


def test_addresses_are_links_where_the_author_writes_and_nowhere_else() -> None:
    page = "".join(to_html(samples.plan()))
    link = '<a href="https://tickets.example/OPS-1234" rel="noreferrer noopener">https://tickets.example/OPS-1234</a>.'
    assert f"<dd>The shorts were closed by hand at the broker; see {link}</dd>" in page
    text = "see <https://a.example/?q=%22&b='c'#d> (http://b.example/x). javascript:alert(1) https://"
    facts = (Fact("Reason", text, links=True), Fact("Error", text))
    page = "".join(to_html(Document("x", facts=facts, sections=samples.hostile().sections)))
    links = [attributes["href"] for tag, attributes in Tags(page).seen if tag == "a"]
    assert links == ["https://a.example/?q=%22&b=", "http://b.example/x"]


def test_json_is_compared_member_by_member() -> None:
    before = '{"id": 12, "tax": {"rate": 0.19, "class": "standard"}}'
    page = page_of(samples.cell("doc", before, before.replace("0.19", "0.07")))
    assert (
        "{\n  &quot;id&quot;: 12,\n  &quot;tax&quot;: {\n    &quot;rate&quot;: <mark>0.07</mark>,\n" in page
    )


def test_a_megabyte_is_cut_and_says_so() -> None:
    page = page_of(
        samples.cell("doc", "y" * 2_000_000, "z"), Cell("e", Value("q" * 50, 2_097_152), Value("z"))
    )
    assert len(page) < 100_000
    assert "(2,000,000 characters)" in page
    assert "(2,097,152 characters)" in page


def test_it_says_how_many_rows_are_not_shown() -> None:
    assert "<b>4,999 of 5,000 rows are not shown.</b>" in page_of(samples.cell("a", "x", "y"), total=5000)
    assert "not shown" not in page_of(samples.cell("a", "x", "y"))


def test_all_rows_are_in_it_whether_or_not_a_script_runs() -> None:
    page = "".join(to_html(samples.many(1050, 2)))
    assert re.findall(r'<th scope="row">(\d+)</th>', page) == [str(number) for number in range(1050)]
    assert page.count('<noscript class="more">') == page.count("</noscript>") == 1

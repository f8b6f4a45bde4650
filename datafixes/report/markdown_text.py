"""Text escaped for GitHub's Markdown: no link, mention, emoji, formula, tag or end of a table cell arises."""

import re

from datafixes.report.document import Value
from datafixes.report.text import is_plain, lines, one_line, shown, with_links

_LONGEST_SENTENCE, _LONGEST_VALUE, _LONGEST_LINE, _MOST_LINES = 1000, 200, 500, 60
# GitHub finds mentions, issues, links and emoji in the rendered text, where a backslash does not help: a zero-width
# space is inserted.
_BLANK = "&#8203;"
_BROKEN_UP = re.compile(
    r"@(?=\w)|#(?=\d)|:(?=//)|:(?=(?!\d{1,2}:)[\w+-]+:)|(?<=\bGH)-(?=\d)|(?<=\bww)w(?=\.)|(?<=\bmailto):|(?<=\bxmpp):",
    re.I,
)
_MARKUP = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
_AT_START = re.compile(r"(?:[-+#>=]|\d+(?=[.)]))")


def sentence(text: str) -> str:
    """A sentence or name on one line, in prose."""
    text = one_line(_beginning(text)).strip()
    started = _AT_START.match(text)
    text = _MARKUP.sub(lambda found: "\\" + found.group(), text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")
    text = _BROKEN_UP.sub(lambda found: found.group() + _BLANK, text)
    if started:
        text = _BLANK + text
    return text


def code(text: str) -> str:
    """A name or a command, as code."""
    return _span(one_line(_beginning(text)))


def paragraph(text: str) -> str:
    """A text of one or more lines."""
    return "<br>".join(sentence(line) for line in lines(_beginning(text)))


def linked(text: str) -> str:
    """A text of one or more lines, with its addresses as links."""
    lined = "\n".join(lines(_beginning(text)))
    return "".join(f"<{part}>" if is_link else _between(part) for part, is_link in with_links(lined))


def _between(text: str) -> str:
    return " " * text.startswith(" ") + paragraph(text) + " " * text.endswith(" ")


def value(given: Value) -> str:
    """A value as code; NULL and masked values in italics."""
    text = shown(given, _LONGEST_VALUE)
    return _span(text) if is_plain(given) else f"_{text}_"


def _beginning(text: str) -> str:
    if len(text) <= _LONGEST_SENTENCE:
        return text
    return f"{text[:_LONGEST_SENTENCE]}… ({len(text):,} characters)"


def _span(text: str) -> str:
    # Markdown renderers differ on a backslash before a bar, even within code.
    text = text.replace("\\|", "\\\\x7c" if text.startswith("E'") else "\\x7c").replace("|", "\\|")
    ticks = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    blank = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) or not text.strip() else ""
    return f"{ticks}{blank}{text}{blank}{ticks}" if text else "` `"


def fenced(text: str) -> tuple[str, int]:
    """A preformatted block, and the number of its lines."""
    text = text.rstrip("\n")
    count = text.count("\n") + 1
    kept = lines("\n".join(text[: _LONGEST_LINE * _MOST_LINES].split("\n")[:_MOST_LINES]))
    kept = [line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + "…" for line in kept]
    if left := count - len(kept):
        kept.append(f"… {left:,} more lines")
    ticks = "`" * max(3, max((len(run) for line in kept for run in re.findall("`+", line)), default=0) + 1)
    return "\n".join([f"{ticks}text", *kept, ticks]), count

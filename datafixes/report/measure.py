"""The width of a text in a terminal: wrapping, cutting and padding."""

from rich.cells import cell_len

ELLIPSIS = "…"


def wrapped(text: str, width: int) -> list[str]:
    """A sentence wrapped into lines. A word that is too long stays whole: it can be a path or digest to copy."""
    found = [""]
    for word in text.split(" "):
        longer = f"{found[-1]} {word}" if found[-1] else word
        if found[-1] and cell_len(longer) > width:
            found.append(word)
        else:
            found[-1] = longer
    return found


def fitting(text: str, width: int) -> str:
    """A text, or its beginning and an ellipsis if it is too wide."""
    if len(text) <= width * 4 and cell_len(text) <= width:
        return text
    cut = text[: max(width, 1) * 4]
    while cut and cell_len(cut) > width - 1:
        cut = cut[:-1]
    return cut + ELLIPSIS


def padded(text: str, width: int) -> str:
    """A text padded to a width."""
    return text + " " * (width - cell_len(text))

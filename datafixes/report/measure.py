"""How wide a text is in a terminal, and what of it fits."""

from rich.cells import cell_len

ELLIPSIS = "…"


def wrapped(text: str, width: int) -> list[str]:
    """A sentence in lines. A word that is too long stays whole: it can be a path, a digest, something to copy."""
    found = [""]
    for word in text.split(" "):
        longer = f"{found[-1]} {word}" if found[-1] else word
        if found[-1] and cell_len(longer) > width:
            found.append(word)
        else:
            found[-1] = longer
    return found


def fitting(text: str, width: int) -> str:
    """A text, or its beginning and an ellipsis where it is wider."""
    if len(text) <= width * 4 and cell_len(text) <= width:
        return text
    cut = text[: max(width, 1) * 4]
    while cut and cell_len(cut) > width - 1:
        cut = cut[:-1]
    return cut + ELLIPSIS


def padded(text: str, width: int) -> str:
    """A text with blanks up to a width."""
    return text + " " * (width - cell_len(text))

"""A conversation's name from its first words. Raw text: it is cleaned where it is shown."""

LONGEST = 60


def title_from(text: str) -> str:
    """The first line with words in it, cut at a word."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    words = " ".join(line.split())
    if len(words) <= LONGEST:
        return words
    cut = words[: LONGEST - 1]
    head, _, _ = cut.rpartition(" ")
    return (head if len(head) > LONGEST // 2 else cut) + "…"

"""A number and what it is of -> how a person says it: `1 row`, `1,000 rows`."""


def counted(n: int, one: str, several: str = "") -> str:
    """Return a number of things; `several` is what they are called, where it is not `one` with an s."""
    return f"{n:,} {one if n == 1 else several or one + 's'}"

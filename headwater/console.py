"""Where the commands print: `out` for what was asked for, `err` for errors and progress; and how they count."""

from rich.console import Console

# Names and labels come from strangers: `:x:` in one is no emoji.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def counted(n: int, one: str, many: str = "") -> str:
    """Return a number of things: `1 row`, `2,000 rows`; `many` where it is not `one` with an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"

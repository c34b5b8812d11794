"""Where the commands print: `out` for what was asked for, `err` for errors and progress."""

from rich.console import Console

# Names and labels come from strangers: `:x:` in one is no emoji.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

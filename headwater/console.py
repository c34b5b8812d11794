"""Where the commands print: `out` for what was asked for, `err` for errors and progress."""

from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

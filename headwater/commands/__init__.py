"""The subcommands of `headwater`, one a module; each imports what it needs when it runs, so that --help is fast."""

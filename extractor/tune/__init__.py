"""A backbone and items -> how fast, how soon and how faithfully each way of running it here embeds them.

Nothing here prints or stores; `search.tune` is the way in.
"""

"""A network in fp32 -> the same in fewer bits, as far as its embeddings stay where they were.

Each of `fp16`, `bf16` and `int8` makes graphs; `mixed` chooses among them. Nothing here writes a backbone folder:
`extractor.derive` does.
"""

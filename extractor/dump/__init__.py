"""A source of items -> OUT, a dump: Parquet shards of embeddings that other programs open as they are.

Format 1. OUT holds

| | |
|---|---|
| `part-00000.parquet` and on | the rows, in the order of the source; what was added to it later, after them |
| `manifest.json` | what the dump is of, and every shard with its rows, errors, bytes and BLAKE3 |
| `embeddings.npy`, `embeddings.jsonl` | on demand, as of then: the rows without an error, and a key and label a line |
| `.lock` | held (flock) by the dump that is at work here |
| `.part-….tmp`, `.superseded/` | a shard that is being written; shards that a retry has put others in place of |

Columns of a shard, in this order, then whatever columns the source carries along:

| column | type | |
|---|---|---|
| `key` | string | unique within the dump: the relative path, the tar member, or the source's row number, from 0 |
| `embedding` | fixed_size_list<float32 or float16>[dim] | null where there is an error |
| `label` | string | null where the source has none |
| `error` | string | null when all is well; else what is wrong with the item |

The schema's metadata name `headwater.format`, `headwater.fingerprint`, `headwater.backbone`, `headwater.dim`, and, in
`headwater.shard`, the shard's own line of the manifest as far as the shard itself can know it (JSON).

**What the rows of a dump are.** Those of all files `OUT/part-*.parquet`, in the order of the files' names: each key
once, nothing to resolve. So whatever opens the shards sees as many rows as the source has items, after a retry too:

A committed shard is never rewritten: a name stands for the same bytes for ever. `--retry-errors` writes a shard that
had errors anew and whole, with the rows that came out this time in their old places, as `part-00003-r1.parquet`, which
sorts where `part-00003.parquet` stood; then that one moves to `OUT/.superseded/`, and the manifest names the new one.
`-r2` supersedes `-r1`. Between the new name and the move, for an instant and after a kill just then, both are there:
of `part-N` and its `-rK` the one with the greatest K counts. Readers that read by the manifest never see both; the
next dump or retry ends what a kill has interrupted.

A file that has changed in the source since it was dumped is told of when the dump is run again, by its time of change;
its row stays as it was.

What a kill leaves: a shard is written as `.part-….tmp`, synced, renamed, and the folder synced; the manifest follows by
the same steps. A shard that is there and not in the manifest is whole, and is taken up from its own metadata.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extractor.dump.retry import retry_errors
    from extractor.dump.run import dump
    from extractor.dump.verify import check

__all__ = ["check", "dump", "retry_errors"]


def __getattr__(name: str) -> Any:
    if name == "dump":
        from extractor.dump.run import dump

        return dump
    if name == "check":
        from extractor.dump.verify import check

        return check
    if name == "retry_errors":
        from extractor.dump.retry import retry_errors

        return retry_errors
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""`headwater index`: a dump -> a FAISS index of it, in its folder."""

import shlex

from headwater.commands.counted import counted
from headwater.commands.dumped import DumpArgument, JsonOption, opened, write_json
from headwater.console import err, out

MIB = 1 << 20


def index(dump: DumpArgument, as_json: JsonOption = False) -> None:
    """Write `index.faiss` and `index.json` into a dump's folder: exact, by cosine, its ids the numbers of the rows.

    `headwater near` takes it up, and any program that has FAISS.

    Example: `headwater index embedded/`
    """
    from classifiers.vector_index import INDEX, LARGE_ROWS, VectorIndex, seconds_a_query, write_index
    from headwater.errors import DumpInvalid, OutputNotWritable

    found = opened(dump)
    if not dump.is_dir():
        raise DumpInvalid(f"{dump} is no folder, and the index stands beside the shards; name the dump's folder")
    mib = 4 * len(found) * found.dim / MIB
    if len(found) > LARGE_ROWS:
        err.print(
            f"{len(found):,} embeddings: an exact index holds {mib:,.0f} MiB in memory while it is made, and a query "
            "reads all of it; where that is too slow, build an IVF or HNSW of FAISS from the same embeddings",
            soft_wrap=True,
        )
    try:
        with err.status("indexing …"):
            write_index(dump, found.X, found.numbers, fingerprint=found.fingerprint, backbone=found.backbone)
    except OSError as error:
        raise OutputNotWritable.by(error, dump) from None
    seconds = seconds_a_query(VectorIndex.open(dump))
    if as_json:
        write_json({"index": str(dump / INDEX), "rows": len(found), "dim": found.dim, "fingerprint": found.fingerprint})
        return
    out.print(
        f"{counted(len(found), 'embedding')} of {found.dim} in {dump / INDEX}, {mib:,.1f} MiB; "
        f"a query takes {1000 * seconds:,.1f} ms",
        soft_wrap=True,
        markup=False,
    )
    out.print(f"use it: headwater near {shlex.quote(str(dump))} FILE", soft_wrap=True, markup=False)

"""`headwater heads`: a table of what was trained."""

from rich.table import Table

from headwater.console import out

FINGERPRINT_DIGITS = 8  # enough to tell two apart at a glance


def heads() -> None:
    """List the heads under HEADWATER_HOME, and whether each can be used.

    Example: `headwater heads`
    """
    from classifiers.errors import HeadInvalid
    from classifiers.persist import load_head
    from headwater.shelf import installed_heads

    folders = installed_heads()
    if not folders:
        out.print("there is no head yet; make one: [bold]headwater train DATA --name NAME[/]")
        return
    table = Table()
    for title in ("name", "backbone", "classes", "examples", "held-out accuracy", "made", "fingerprint"):
        table.add_column(title, overflow="fold")
    for folder in folders:
        try:
            head, manifest = load_head(folder)
        except HeadInvalid as error:
            table.add_row(folder.name, f"not usable: {error}")
            continue
        accuracy = manifest.metrics.get("cv_accuracy")
        table.add_row(
            folder.name,
            manifest.backbone,
            str(len(head.classes_)),
            f"{len(manifest.items):,}",
            "" if accuracy is None else f"{accuracy:.1%}",
            manifest.created[:10],
            manifest.fingerprint[:FINGERPRINT_DIGITS],
        )
    out.print(table)

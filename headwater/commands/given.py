"""What a person gave on the command line -> a refusal of options that would be ignored."""

import typer

ACCESS = ("--key", "--ca", "--cert", "--cert-key")
OF_ITEMS = ("--backbone", "--item-column", "--server", "--cache", *ACCESS)  # which a dump has no use for


def given(context: typer.Context) -> list[str]:
    """Return the options that stand on the command line; what the environment says is for other commands as well."""
    options = (one for one in context.command.params if one.param_type_name == "option")
    return [max(one.opts, key=len) for one in options if _is_said(context, one.name or "")]


def refuse(context: typer.Context, *options: str, because: str) -> None:
    """Refuse options, where they are given; raises BadParameter."""
    if needless := [one for one in given(context) if one in options]:
        them = "it" if len(needless) == 1 else "them"
        raise typer.BadParameter(f"{', '.join(needless)} would be ignored: {because}; leave {them} away")


def refuse_all_but(context: typer.Context, *options: str, because: str) -> None:
    """Refuse every other option that is given; raises BadParameter."""
    refuse(context, *(one for one in given(context) if one not in options), because=because)


def refuse_for_dump(context: typer.Context) -> None:
    """Refuse what is for items that are to be embedded; raises BadParameter."""
    refuse(context, *OF_ITEMS, because="a dump has its embeddings")


def check_access(context: typer.Context, servers: object) -> None:
    """Refuse what is for a server where there is none, and for embeddings made here where there is one."""
    if servers:
        named = "a server" if "--server" in given(context) else "HEADWATER_SERVER names a server, which"
        refuse(context, "--cache", because=f"{named} keeps what it embeds")
    else:
        refuse(context, *ACCESS, because="no --server is named that could ask for it")


def _is_said(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"

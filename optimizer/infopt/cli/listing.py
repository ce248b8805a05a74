"""Commands that say what there is: targets, passes."""

from __future__ import annotations

import typer


def targets() -> None:
    """List the targets, and whether each can be used on this machine."""
    from infopt import registry

    for name in registry.names("targets"):
        target = registry.target(name)
        missing, idle = target.available(), target.runnable()
        state = f"not available: {missing}" if missing else f"{target.runtime} {target.version()}"
        if not missing and idle:
            state += f"; builds here, does not run here: {idle}"
        typer.echo(f"{name:14} {state}")


def passes() -> None:
    """List the passes with their options."""
    from infopt import registry
    from infopt.options import fields

    for name in registry.names("passes"):
        cls = registry.pass_class(name)
        typer.echo(f"{name}: {(cls.__doc__ or '').splitlines()[0]}")
        for field in fields(cls):
            typer.echo(f"    {field.name} = {field.default!r}  {field.opt.help}")


COMMANDS = (targets, passes)

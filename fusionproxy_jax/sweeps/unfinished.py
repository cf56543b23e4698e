"""What is left to train of a program, by what its members' status files say."""

from pathlib import Path

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.partners import some_names
from fusionproxy_jax.sweeps.folder import member_dir
from fusionproxy_jax.sweeps.member_files import read_status
from fusionproxy_jax.sweeps.programs import Program


def unfinished_part(program: Program, workdir: Path) -> Program | None:
    """Returns the program to train, None when every member has ended.

    Members that ended in another program, because the sweep was divided over another
    number of tasks then, are left out; those that ended in this one belong to its
    state.

    Raises:
        FusionProxyError: Members were begun in a program of others, whose state would
            be lost.
    """
    found = {name: read_status(member_dir(workdir, name)) for name in program.members}
    statuses = {name: status for name, status in found.items() if status is not None}
    ended = {name for name, status in statuses.items() if status.ended}
    if ended == program.members.keys():
        return None
    begun = {status.program for name, status in statuses.items() if name not in ended}
    part = Program(
        {
            name: config
            for name, config in program.members.items()
            if name not in ended or statuses[name].program in begun
        }
    )
    if begun - {part.id}:
        names = [
            name
            for name in part.members
            if name in statuses and statuses[name].program != part.id
        ]
        raise FusionProxyError(
            f"{some_names(names)} in {workdir} began beside other members than now; "
            "finish the sweep with the --index and --count it began with, or delete "
            f"{workdir / 'members'}/ of these members to begin them anew"
        )
    return part

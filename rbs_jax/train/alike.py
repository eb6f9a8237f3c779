"""Whether all processes of a run were given the same one."""

from rbs_jax.errors import UserError
from rbs_jax.experiment import Experiment, differences, to_json
from rbs_jax.hosts.together import all_say


def refuse_other_settings(experiment: Experiment) -> None:
    """All processes do the same run; paths may differ, what lies there is compared later.

    Raises:
      UserError: a process was given other settings than process 0.
    """
    said = all_say({name: own for name, own in to_json(experiment).items() if name != "data"})
    for index, own in enumerate(said):
        unlike = differences(said[0], own)
        if unlike:
            raise UserError(
                f"process {index} has other settings than process 0 ({'; '.join(unlike)}): give "
                "all the same config and command"
            )

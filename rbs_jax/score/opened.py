"""A model by its name or as it is loaded, and the mesh that it lies on."""

from pathlib import Path

import jax
from jax.sharding import Mesh, NamedSharding

from rbs_jax.errors import UserError
from rbs_jax.model.kinds import Model
from rbs_jax.sharding import mesh_for_scoring
from rbs_jax.train.models import LoadedModel, find_model, load_model


def opened(
    model: LoadedModel | str | Path, mesh: Mesh | None, kind: type[Model], refusal: str
) -> tuple[LoadedModel, Mesh]:
    """What a MODEL names, loaded.

    Args:
      model: it, or its name.
      mesh: where it lies or is to lie; None for where it lies, or is best scored with.
      kind: what it must be.
      refusal: why no other will do.

    Raises:
      UserError: no such model, or one of another kind.
    """
    if isinstance(model, str | Path):
        found = find_model(str(model))
        if found.experiment.kind is not kind:
            raise UserError(f"{found}: {refusal}")
        mesh = mesh or mesh_for_scoring(found.experiment.mesh)
        with jax.set_mesh(mesh):
            return load_model(found, mesh), mesh
    if not isinstance(model.model, kind):
        raise UserError(refusal)
    return model, mesh or _mesh_of(model)


def _mesh_of(loaded: LoadedModel) -> Mesh:
    sharding = jax.tree.leaves(loaded.model)[0].sharding
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        return sharding.mesh
    return mesh_for_scoring(loaded.experiment.mesh)

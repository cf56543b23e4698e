"""How a teacher cache begins: what it is made of, written down by the first process."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.diffusion.gaussian_prior import (
    GaussianPrior,
    load_gaussian_prior,
    save_gaussian_prior,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.kept_teacher import KeptTeacher
from fusionproxy_jax.teachers.manifest import (
    ImageEntry,
    Manifest,
    manifest_path,
    read_manifest,
    require_same,
)
from fusionproxy_jax.teachers.ownership import owned
from fusionproxy_jax.teachers.panel_statistics.identity import FEATURES
from fusionproxy_jax.teachers.registry import Teacher, build_teachers


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """What a cache is made of, before any weights are read."""

    config: TeacherConfig
    images: Sequence[ImageEntry]
    # Teachers whose samples are taken from another cache, and its hash.
    kept: Mapping[str, KeptTeacher] = dataclasses.field(default_factory=dict)
    samples_of: str | None = None

    def teachers(self, prior: GaussianPrior) -> tuple[Teacher | KeptTeacher, ...]:
        """Returns all teachers in order; reads the weights of those that draw."""
        names = self.config.teachers
        drawn = tuple(name for name in names if name not in self.kept)
        teachers: dict[str, Teacher | KeptTeacher] = dict(self.kept)
        if drawn:
            config = dataclasses.replace(self.config, teachers=drawn)
            built = build_teachers(config, prior)
            teachers |= dict(zip(drawn, built, strict=True))
        return tuple(teachers[name] for name in names)

    def manifest(self, teachers: Sequence[Teacher | KeptTeacher]) -> Manifest:
        """Returns the manifest of a cache of these teachers."""
        fingerprints = {teacher.name: teacher.fingerprint for teacher in teachers}
        return Manifest.of(
            self.config, fingerprints, self.images, samples_of=self.samples_of
        )


def begin(
    directory: Path, ensemble: Ensemble, prior: GaussianPrior
) -> tuple[Manifest, tuple[Teacher | KeptTeacher, ...]]:
    """Returns manifest and teachers; the first process to come writes them down.

    The prior comes before the manifest that says the folder is a cache. It is the
    first process's that all use: another machine may round a statistic differently.

    Raises:
      FusionProxyError: the folder holds another cache, or files of none, or cannot be
        written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FusionProxyError(
            f"could not make the cache folder {directory}: {error.strerror}"
        ) from error
    prior_path = directory / "prior.npz"
    found = read_manifest(directory)
    if found is None:
        with owned(manifest_path(directory)), owned(prior_path):
            found = read_manifest(directory)
            if found is None:
                for kind in ("shard", "samples", FEATURES):
                    if next(directory.glob(f"{kind}*"), None) is not None:
                        raise FusionProxyError(
                            f"{directory} holds {kind.rstrip('s')}s but no "
                            "manifest.json; choose another --cache folder, or delete "
                            "this one"
                        )
                teachers = ensemble.teachers(prior)
                manifest = ensemble.manifest(teachers)
                save_gaussian_prior(prior_path, prior)
                manifest.write(directory)
                return manifest, teachers
    teachers = ensemble.teachers(load_gaussian_prior(prior_path))
    manifest = ensemble.manifest(teachers)
    require_same(manifest, found, directory)
    return manifest, teachers

"""`fusionproxy export-teacher`: a trained teacher's network as safetensors."""

from dataclasses import dataclass
from pathlib import Path

from fusionproxy_jax.commands.export import without_folders


@dataclass(frozen=True, kw_only=True)
class ExportTeacher:
    """Write the averaged network of a `train-teacher` run as float16 safetensors.

    The file says which teacher and which network it holds; give it to
    `fusionproxy teach` as --teacher.ddfm.weights or --teacher.mask-difuser.weights.
    """

    # Folder of a `fusionproxy train-teacher` run.
    workdir: Path
    # The file to write.
    out: Path

    def run(self) -> None:
        """Writes the file and says how large it is."""
        from fusionproxy_jax.teachers.pretrained import save_network
        from fusionproxy_jax.training.checkpoint import load_averaged
        from fusionproxy_jax.training.teacher_run import as_network

        params, run = load_averaged(self.workdir)
        network = as_network(run["config"], params)
        training = {name: run[name] for name in ("step", "code_version", "jax_version")}
        training["config"] = without_folders(run["config"])
        self.out.parent.mkdir(parents=True, exist_ok=True)
        save_network(self.out, network, training=training)
        print(f"{self.out}  {self.out.stat().st_size / 1e6:.1f} MB")

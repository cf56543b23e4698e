"""M3FD: 4,200 labelled and 300 unlabelled pairs, by hand from the owners' drive."""

from pathlib import Path

import tensorflow_datasets as tfds

from fusionproxy_jax.input_pipeline.pair_builder import PairBuilder


class Builder(PairBuilder):
    """Reads the two archives of the release; its splits are named after them.

    There is no split `train`: the labelled pairs are what detection on fused images is
    measured on, so training on them has to be asked for by name.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Pairs without the detection boxes."}
    DESCRIPTION = (
        "Campus, road and beach scenes in Dalian by day, overcast, at night and in "
        "smoke, mostly 1024x768: 4,200 pairs labelled for detection and 300 pairs of "
        "other scenes for fusion."
    )
    HOMEPAGE = "https://github.com/JinyuanLiu-CV/TarDAL"
    LICENCE = (
        "The repository of the data set states no licence for the images; it asks for "
        "the citation. Ask its owners before any use other than research."
    )
    CITATION = """\
@inproceedings{liu2022target,
  title={Target-aware Dual Adversarial Learning and a Multi-scenario Multi-Modality
         Benchmark to Fuse Infrared and Visible for Object Detection},
  author={Liu, Jinyuan and Fan, Xin and Huang, Zhanbo and Wu, Guanyao and Liu, Risheng
          and Zhong, Wei and Luo, Zhongxuan},
  booktitle={Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern
             Recognition},
  year={2022}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Open the drive folder linked by the official repository
https://github.com/JinyuanLiu-CV/TarDAL, that is
https://drive.google.com/drive/folders/1H-oO7bgRuVFYDcMGvxstT1nmy0WF_Y_6,
and put M3FD_Detection.zip and M3FD_Fusion.zip into the manual folder. Folders
M3FD_Detection and M3FD_Fusion with the unpacked archives work too."""
    VISIBLE_FOLDER = "Vis"
    INFRARED_FOLDER = "Ir"
    NUM_PAIRS = {"detection": 4200, "fusion": 300}

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        return {
            split: self._generate_examples(
                self._folder(dl_manager.manual_dir, f"M3FD_{split.capitalize()}"),
                split,
                f"{split}/",
            )
            for split in self.NUM_PAIRS
        }

    def _folder(self, manual_dir: Path, name: str) -> Path:
        """Returns the unpacked archive `name`."""
        folder = Path(manual_dir) / name
        return folder if folder.is_dir() else self.unpack(f"{folder}.zip", name)

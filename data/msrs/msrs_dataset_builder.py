"""MSRS: 1,444 aligned road pairs, day and night, with an official train/test split."""

import tensorflow_datasets as tfds

from fusionproxy_jax.input_pipeline.pair_builder import PairBuilder

_URL = "https://github.com/Linfeng-Tang/MSRS/archive/refs/heads/main.zip"


class Builder(PairBuilder):
    """Downloads the official repository; splits are its folders train and test."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Pairs without the segmentation labels."}
    DESCRIPTION = (
        "Multi-Spectral Road Scenarios: 640x480 infrared-visible road pairs by day and "
        "night, made from MFNet by removing misaligned pairs and enhancing the "
        "infrared images. Stems end in D (day) or N (night)."
    )
    HOMEPAGE = "https://github.com/Linfeng-Tang/MSRS"
    LICENCE = (
        "The repository of the data set states no licence; it asks for the citation. "
        "Ask its owners before any use other than research."
    )
    CITATION = """\
@article{Tang2022PIAFusion,
  title={PIAFusion: A progressive infrared and visible image fusion network based on
         illumination aware},
  author={Tang, Linfeng and Yuan, Jiteng and Zhang, Hao and Jiang, Xingyu and
          Ma, Jiayi},
  journal={Information Fusion},
  year={2022},
  publisher={Elsevier}
}"""
    VISIBLE_FOLDER = "vi"
    INFRARED_FOLDER = "ir"
    NUM_PAIRS = {"train": 1083, "test": 361}

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        root = self.unpack(dl_manager.download(_URL), "msrs") / "MSRS-main"
        return {
            split: self._generate_examples(root / split, split)
            for split in self.NUM_PAIRS
        }

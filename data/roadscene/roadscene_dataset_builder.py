"""RoadScene: 221 aligned road pairs from FLIR videos; no official split."""

import tensorflow_datasets as tfds

from fusionproxy_jax.input_pipeline.pair_builder import PairBuilder

_URL = "https://github.com/hanna-xu/RoadScene/archive/refs/heads/master.zip"


class Builder(PairBuilder):
    """Downloads the official repository; all pairs are in the split train.

    The release names no test images. Papers test on different selections of about 50
    pairs, so hold out what you report on by id.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Visible images at the size of the infrared ones."}
    DESCRIPTION = (
        "Road scenes with vehicles and pedestrians: infrared images cleaned of thermal "
        "noise and visible images aligned and cropped to the same size, which differs "
        "from pair to pair."
    )
    HOMEPAGE = "https://github.com/hanna-xu/RoadScene"
    LICENCE = (
        "The repository of the data set states no licence; it asks for the citation. "
        "Frames come from the FLIR ADAS videos, which have terms of their own. Ask the "
        "owners before any use other than research."
    )
    CITATION = """\
@inproceedings{xu2020aaai,
  title={FusionDN: A Unified Densely Connected Network for Image Fusion},
  author={Xu, Han and Ma, Jiayi and Le, Zhuliang and Jiang, Junjun and Guo, Xiaojie},
  booktitle={Proceedings of the Thirty-Fourth AAAI Conference on Artificial
             Intelligence},
  year={2020}
}
@article{xu2020u2fusion,
  title={U2Fusion: A Unified Unsupervised Image Fusion Network},
  author={Xu, Han and Ma, Jiayi and Jiang, Junjun and Guo, Xiaojie and Ling, Haibin},
  journal={IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year={2020},
  publisher={IEEE}
}"""
    # The folder `infrared` holds the uncropped frames: they match no visible image.
    VISIBLE_FOLDER = "crop_LR_visible"
    INFRARED_FOLDER = "cropinfrared"
    NUM_PAIRS = {"train": 221}

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        root = self.unpack(dl_manager.download(_URL), "roadscene") / "RoadScene-master"
        return {"train": self._generate_examples(root, "train")}

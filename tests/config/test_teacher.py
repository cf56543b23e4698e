import pytest

from fusionproxy_jax.config import (
    DDFMConfig,
    MaskDifuserConfig,
    PanelConfig,
    TeacherConfig,
)
from fusionproxy_jax.errors import FusionProxyError


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: TeacherConfig(variance="between"),
            "teacher.variance is 'between'; it must be one of .'total', 'within'.",
        ),
        (
            lambda: PanelConfig(target="mean"),
            "panel.target is 'mean'; it must be one of .'mean_of_features', 'features",
        ),
        (
            lambda: TeacherConfig(teachers="ddfm"),
            "teacher.teachers is 'ddfm'; it must be a tuple of one of .'ddfm', 'mask",
        ),
        (
            lambda: MaskDifuserConfig(eta="1"),
            "teacher.mask_difuser.eta is '1'; it must be a finite number",
        ),
        (
            lambda: DDFMConfig(mode="loud"),
            "teacher.ddfm.mode is 'loud'; it must be one of .'released', 'paper'",
        ),
    ],
)
def test_values_that_there_are_not_are_refused_in_one_sentence(make, told):
    with pytest.raises(FusionProxyError, match=told):
        make()


def test_lists_become_tuples():
    assert PanelConfig(backbones=["clip", "sam"]).backbones == ("clip", "sam")
    config = TeacherConfig(teachers=["ddfm", "average"])
    assert config == TeacherConfig(teachers=("ddfm", "average"))
    hash(config)

"""What makes two caches the same, and what later versions may not change of it."""

import dataclasses
import json

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.teachers.manifest import (
    ImageEntry,
    Manifest,
    manifest_path,
    read_manifest,
)

IMAGES = (ImageEntry("a/1", 4, 5, 6),)
# As caches of format 2 were first written.
WRITTEN = {
    "fingerprints": {"average": ""},
    "format": 2,
    "hash": "e13ed16e4f1126bc",
    "images": [{"crc32": 6, "height": 4, "id": "a/1", "width": 5}],
    "teacher": {
        "ddfm": {"eta": 0.0, "weights": "x"},
        "num_samples": 2,
        "teachers": ["average"],
    },
}


def test_a_manifest_of_before_is_read_and_written_as_it_was(tmp_path):
    text = json.dumps(WRITTEN, indent=1, sort_keys=True)
    manifest_path(tmp_path).write_text(text)
    manifest = read_manifest(tmp_path)
    assert manifest.hash == WRITTEN["hash"]
    assert manifest.settings["variance"] == "total"
    assert manifest.samples_of is None
    manifest.write(tmp_path)
    assert manifest_path(tmp_path).read_text() == text


def test_what_later_versions_added_is_stated_where_it_is_not_as_before(tmp_path):
    config = TeacherConfig(variance="within")
    manifest = Manifest.of(config, {"ddfm": "f"}, IMAGES, samples_of="abcd")
    manifest.write(tmp_path)
    values = json.loads(manifest_path(tmp_path).read_text())
    assert (values["teacher"]["variance"], values["samples_of"]) == ("within", "abcd")
    assert read_manifest(tmp_path) == manifest


def test_variance_and_origin_of_the_samples_are_part_of_the_hash():
    usual = Manifest.of(TeacherConfig(), {"ddfm": "f"}, IMAGES)
    others = [
        Manifest.of(TeacherConfig(variance="within"), {"ddfm": "f"}, IMAGES),
        dataclasses.replace(usual, samples_of="abcd"),
        dataclasses.replace(usual, samples_of="bcde"),
    ]
    assert len({manifest.hash for manifest in (usual, *others)}) == 4

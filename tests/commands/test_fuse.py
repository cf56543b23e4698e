import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runtime.tiny_onnx import write_classifier, write_student

from fusionproxy_jax import cli
from fusionproxy_jax.runtime.images import read_visible, write_image

RNG = np.random.default_rng(0)
VISIBLE = RNG.integers(0, 256, (33, 47, 3), dtype=np.uint8)
INFRARED = RNG.integers(0, 256, (33, 47), dtype=np.uint8)
FUSED = np.rint(0.5 * VISIBLE + 0.5 * INFRARED[..., None])
PAIR = {"visible": "v.png", "infrared": "i.png", "out": "out.png", "model": "m.onnx"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a good pair v.png, i.png and a student m.onnx."""
    monkeypatch.chdir(tmp_path)
    write_image(Path("v.png"), VISIBLE)
    write_image(Path("i.png"), INFRARED)
    write_student(Path("m.onnx"))
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch, capfd):
    """Runs `fusionproxy fuse` with options; gives (exit code, stdout, stderr)."""

    def run(**options):
        arguments = []
        for name, value in (PAIR | options).items():
            arguments += [f"--{name}"] + ([] if value is True else str(value).split())
        monkeypatch.setattr(sys, "argv", ["fusionproxy", "fuse", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (stop.value.code, *capfd.readouterr())

    return run


def _contents(folder):
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return {path: path.read_bytes() for path in files} | {
        path: None for path in folder.rglob("*") if path.is_dir()
    }


def test_one_pair_gives_one_file_and_one_line(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(read_visible("out.png"), FUSED)
    assert out.startswith("out.png: 47x33 px, fused in ")
    assert out.count("\n") == 1


def test_folders_give_a_folder_and_a_summary(run):
    for name, array in (("rgb", VISIBLE), ("heat", INFRARED)):
        Path(name).mkdir()
        for number in range(3):
            write_image(Path(name, f"{number}_{name}.png"), array)
    Path("heat").rename("thermal")
    for path in Path("thermal").iterdir():
        path.rename(path.with_name(path.name.replace("heat", "thermal")))
    code, out, err = run(visible="rgb", infrared="thermal", out="deep/fused")
    assert (code, err) == (0, "")
    assert out.startswith("deep/fused: 3 pairs, 47x33 px, ")
    assert out.count("\n") == 1
    names = sorted(path.name for path in Path("deep/fused").iterdir())
    assert names == ["0_rgb.png", "1_rgb.png", "2_rgb.png"]
    np.testing.assert_array_equal(read_visible("deep/fused/1_rgb.png"), FUSED)


def test_patterns_the_shell_has_expanded_work_too(run):
    for number in range(2):
        write_image(Path(f"{number}_rgb.png"), VISIBLE)
        write_image(Path(f"{number}_ir.png"), INFRARED)
    visible, infrared = "0_rgb.png 1_rgb.png", "0_ir.png 1_ir.png"
    assert run(visible=visible, infrared=infrared, out="a")[0] == 0
    assert run(visible="*_rgb.png", infrared="*_ir.png", out="b")[0] == 0
    for name in ("0_rgb.png", "1_rgb.png"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()


def test_a_bad_pair_in_a_folder_is_named_and_the_others_are_written(run):
    for name, array in (("rgb", VISIBLE), ("ir", INFRARED)):
        Path(name).mkdir()
        for number in range(3):
            write_image(Path(name, f"{number}.png"), array)
    Path("ir", "1.png").write_bytes(Path("ir", "1.png").read_bytes()[:500])
    code, out, err = run(visible="rgb", infrared="ir", out="fused")
    assert code == 2
    assert out.startswith("fused: 2 of 3 pairs, ")
    assert "left out 1.png: infrared image ir/1.png cannot be read" in err
    assert err.count("\n") == 2
    assert sorted(path.name for path in Path("fused").iterdir()) == ["0.png", "2.png"]


def test_overwrite_replaces_a_result(run):
    assert run()[0] == 0
    write_image(Path("out.png"), VISIBLE)
    assert run(overwrite=True)[0] == 0
    np.testing.assert_array_equal(read_visible("out.png"), FUSED)


def _tiff(path, samples):
    """Writes uint8 [h, w, c] as a plain TIFF; c may be what no camera gives."""
    height, width, channels = samples.shape
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8)]
    tags += [(277, channels), (278, height), (279, samples.size)]
    data = samples.tobytes() + b"\0" * (samples.size % 2)
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    header = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    count = struct.pack("<H", len(tags))
    path.write_bytes(header + data + count + directory + struct.pack("<I", 0))


def _cut(name, suffix=".png"):
    """Leaves half of an image file."""
    path = Path(name).with_suffix(suffix)
    Image.open(name).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _corrupt(name):
    """Turns over the bytes in the middle of a file."""
    data = bytearray(Path(name).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20] = bytes(255 - value for value in data[middle:][:20])
    Path(name).write_bytes(data)


def _with_nan():
    kelvin = INFRARED.astype(np.float32) + 280
    kelvin[3, 4:6] = np.nan
    Image.fromarray(kelvin).save("nan.tiff")


def _folders(visible, infrared):
    for folder, names in (("rgb", visible), ("ir", infrared)):
        Path(folder).mkdir()
        for name in names.split():
            write_image(Path(folder, name), VISIBLE if folder == "rgb" else INFRARED)


FOLDERS = {"visible": "rgb", "infrared": "ir", "out": "fused"}
# What is wrong -> (how to bring it about, options, part of the sentence).
BAD_INPUTS = {
    "corrupt visible": (lambda: _corrupt("v.png"), {}, "visible image v.png cannot be"),
    "corrupt infrared": (lambda: _corrupt("i.png"), {}, "infrared image i.png cannot"),
    "truncated PNG": (lambda: _cut("v.png"), {}, "damaged, cut short"),
    "truncated JPEG": (
        lambda: _cut("v.png", ".jpg"),
        {"visible": "v.jpg"},
        "damaged, cut short",
    ),
    "truncated BMP": (
        lambda: _cut("i.png", ".bmp"),
        {"infrared": "i.bmp"},
        "damaged, cut short",
    ),
    "truncated TIFF": (
        lambda: _cut("v.png", ".tif"),
        {"visible": "v.tif"},
        "damaged, cut short",
    ),
    "truncated packed TIFF": (
        lambda: (
            Image.open("v.png").save("z.tif", compression="tiff_lzw"),
            Path("z.tif").write_bytes(Path("z.tif").read_bytes()[:2000]),
        ),
        {"visible": "z.tif"},
        "damaged, cut short",
    ),
    "zero-size file": (
        lambda: Path("v.png").write_bytes(b""),
        {},
        "visible image v.png is an empty file",
    ),
    "no image": (
        lambda: Path("v.png").write_text("text"),
        {},
        "not a PNG, JPEG, TIFF or BMP image",
    ),
    "1x1": (
        lambda: write_image(Path("v.png"), VISIBLE[:1, :1]),
        {},
        "is 1x1 px; both sides must be at least 16 px",
    ),
    "20000x3": (
        lambda: write_image(Path("i.png"), np.zeros((3, 20000), np.uint8)),
        {},
        "is 20000x3 px; both sides must be at least 16 px",
    ),
    "two channels": (
        lambda: _tiff(Path("two.tif"), VISIBLE[..., :2]),
        {"visible": "two.tif"},
        "visible image two.tif cannot be read",
    ),
    "five channels": (
        lambda: _tiff(Path("five.tif"), np.zeros((33, 47, 5), np.uint8)),
        {"infrared": "five.tif"},
        "infrared image five.tif cannot be read",
    ),
    "false-colour infrared": (
        lambda: write_image(Path("i.png"), VISIBLE),
        {},
        "is a false-colour rendering; export it from the camera in grey",
    ),
    "NaN": (_with_nan, {"infrared": "nan.tiff"}, "has 2 NaN or infinite values"),
    "float visible": (_with_nan, {"visible": "nan.tiff"}, "save it with 8 or 16 bits"),
    "different shapes": (
        lambda: write_image(Path("i.png"), INFRARED.T),
        {},
        "47x33 px and the infrared image 33x47 px, which are different shapes",
    ),
    "no visible file": (None, {"visible": "no.png"}, "there is no file or folder no"),
    "no infrared file": (None, {"infrared": "no.png"}, "there is no file or folder no"),
    "pattern without match": (None, {"visible": "x*.png"}, "no images match x*.png"),
    "folder without images": (
        lambda: Path("rgb").mkdir(),
        {"visible": "rgb"},
        "no images directly in folder rgb",
    ),
    "missing infrared partner": (
        lambda: _folders("a.png b.png", "a.png"),
        FOLDERS,
        "no infrared partner for rgb/b.png",
    ),
    "missing visible partner": (
        lambda: _folders("a.png", "a.png b.png c.png"),
        FOLDERS | {"visible": "rgb v.png"},
        "no infrared partner for v.png; no visible partner for ir/b.png, ir/c.png",
    ),
    "same stem twice": (
        lambda: _folders("a.png a.bmp", "a.png"),
        FOLDERS,
        "rgb/a.bmp and rgb/a.png have the same name without suffix",
    ),
    "many pairs, one file": (
        lambda: _folders("a.png b.png", "a.png b.png"),
        FOLDERS | {"out": "out.png"},
        "2 pairs cannot go into the one file out.png; give a folder",
    ),
    "result exists": (
        lambda: write_image(Path("out.png"), VISIBLE),
        {},
        "1 of 1 results exist already (out.png); add --overwrite",
    ),
    "result is an input": (
        None,
        {"out": "v.png", "overwrite": True},
        "v.png is an input and would be replaced",
    ),
    "unwritable output": (
        None,
        {"out": "v.png/fused"},
        "cannot write into v.png/fused: v.png is not a folder",
    ),
    "16 bits into JPEG": (
        lambda: write_image(Path("v.png"), VISIBLE.astype(np.uint16)),
        {"out": "out.jpg"},
        "16-bit images are written as .png",
    ),
    "16 bits into the 8-bit student": (
        lambda: write_image(Path("v.png"), VISIBLE.astype(np.uint16)),
        {},
        "takes 8-bit images and the visible image is uint16",
    ),
    "no such model": (None, {"model": "huge"}, "there is no model 'huge'"),
    "no model file": (None, {"model": "no.onnx"}, "there is no model file no.onnx"),
    "damaged model": (
        lambda: Path("m.onnx").write_bytes(Path("m.onnx").read_bytes()[:200]),
        {},
        "m.onnx is damaged or not an ONNX model",
    ),
    "another kind of model": (
        lambda: write_classifier(Path("m.onnx")),
        {},
        "m.onnx is not a fusion model",
    ),
    "no threads": (None, {"threads": "0"}, "it must be between 1 and 256"),
}


@pytest.mark.parametrize(
    ("arrange", "options", "sentence"), BAD_INPUTS.values(), ids=BAD_INPUTS
)
def test_bad_input_is_one_sentence_exit_code_2_and_nothing_written(
    run, folder, arrange, options, sentence
):
    if arrange is not None:
        arrange()
    before = _contents(folder)
    code, out, err = run(**options)
    assert (code, out) == (2, "")
    assert err.startswith("fusionproxy: ")
    assert err.count("\n") == 1
    assert sentence in err
    assert _contents(folder) == before


def test_a_full_disk_is_one_sentence_and_leaves_nothing(run, folder, monkeypatch):
    write_bytes = Path.write_bytes

    def fill_up(path, data):
        write_bytes(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = _contents(folder)
    monkeypatch.setattr(Path, "write_bytes", fill_up)
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err == "fusionproxy: could not write out.png: No space left on device\n"
    assert _contents(folder) == before


def _python(code, folder):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


FUSE = """
import sys
from fusionproxy_jax import cli
sys.argv = "fusionproxy fuse --visible v.png --infrared i.png --out out.png".split()
sys.argv += ["--model", "m.onnx"]
try:
    cli.main()
except SystemExit as stop:
    code = stop.code
"""


def test_a_write_the_system_cuts_off_leaves_nothing(folder):
    """A real partial write: the process may not make files of more than 1000 bytes."""
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    before = _contents(folder)
    process = _python(f"{limit}{FUSE}\nsys.exit(code)", folder)
    assert process.returncode == 2
    assert process.stderr == "fusionproxy: could not write out.png: File too large\n"
    assert _contents(folder) == before


HEAVY = {"jax", "jaxlib", "flax", "torch", "tensorflow", "onnx", "grain", "scipy"}
REPORT = """
import sys
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    "code", ["import fusionproxy_jax", FUSE], ids=["import", "fuse"]
)
def test_no_training_framework_is_loaded(folder, code):
    process = _python(code + REPORT, folder)
    assert process.returncode == 0, process.stderr
    loaded = set(process.stdout.splitlines()[-1].split())
    assert "fusionproxy_jax" in loaded
    assert not loaded & HEAVY
    assert (folder / "out.png").exists() == (code == FUSE)


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run(["fuse", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for word in ("--visible", "--infrared", "--out", "--model", "--overwrite", "base"):
        assert word in text

"""What is installed, what is imported, and in which direction."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fusionproxy_jax"

# Floors from the ground up; a module imports only from floors below, or its own part.
FLOORS = (
    ("errors",),
    ("types", "config", "runtime"),
    ("checkpoints", "diffusion"),
    (
        "losses",
        "models",
        "panel",
        "misalignment",
        "input_pipeline",
        "evaluation",
    ),
    ("teachers", "onnx_export"),
    ("training",),
    ("sweeps",),
    ("ablation",),
    ("commands", "cli", "integrations"),
)
FLOOR_OF = {part: level for level, parts in enumerate(FLOORS) for part in parts}


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _package_imports(path: Path) -> set[str]:
    """Parts of the package that a file imports, inside functions too."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "fusionproxy_jax":
            names = [f"fusionproxy_jax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module]
        for name in names:
            if name.startswith("fusionproxy_jax."):
                parts.add(name.split(".")[1])
    return parts


def _modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE] + [
        path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"
    ]


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_only_downward(path):
    part = _part(path)
    assert part in FLOOR_OF, f"{part} has no floor: add it to FLOORS"
    for imported in _package_imports(path) - {part, "__version__"}:
        assert FLOOR_OF[imported] < FLOOR_OF[part], (
            f"{part} (floor {FLOOR_OF[part]}) imports {imported} "
            f"(floor {FLOOR_OF[imported]})"
        )


def test_only_one_file_names_pmap():
    naming = [p for p in _modules() if "jax.pmap" in p.read_text()]
    assert [p.relative_to(PACKAGE).as_posix() for p in naming] == [
        "training/parallel.py"
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "import fusionproxy_jax",
        "from fusionproxy_jax import load",
        "import fusionproxy_jax.cli",
    ],
)
def test_importing_the_package_loads_no_framework(statement):
    code = (
        f"{statement}; import sys; "
        "print([m for m in ('jax', 'flax', 'torch', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_wheel_contains_only_the_package(tmp_path):
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--wheel-dir", str(tmp_path), str(ROOT)),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "fusionproxy_jax"
    }
    assert "fusionproxy_jax/py.typed" in names
    shipped = {
        path.relative_to(ROOT).as_posix()
        for path in (PACKAGE / "weights").rglob("*")
        if path.is_file()
    }
    packed = {name for name in names if name.startswith("fusionproxy_jax/weights/")}
    assert packed == shipped

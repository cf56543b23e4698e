import pytest

from fusionproxy_jax.config import Config, TeacherTrainingConfig
from fusionproxy_jax.config.experiment_file import load_experiment
from fusionproxy_jax.errors import FusionProxyError

IMPORTS = "from fusionproxy_jax.config import *\nimport dataclasses\n"


def written(folder, *lines):
    path = folder / "mine.py"
    path.write_text(IMPORTS + "\n".join(lines) + "\n")
    return path


def refusal(path, kind=Config):
    with pytest.raises(FusionProxyError) as caught:
        load_experiment(str(path), kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "Config(num_stepz=1)",
            "Config has no setting 'num_stepz'; did you mean num_steps?",
        ),
        (
            "dataclasses.replace(Config(), sed=1)",
            "Config has no setting 'sed'; did you mean seed?",
        ),
        (
            "Config(loss=LossConfig(temperature_of_routing=1))",
            "LossConfig has no setting 'temperature_of_routing'; ",
        ),
        (
            "Config(optimizer=OptimizerConfig(xyz=1))",
            "OptimizerConfig has no setting 'xyz'; there are ",
        ),
        ("Config(7)", "line 4: TypeError: "),
        ("1 / 0", "line 4: ZeroDivisionError: division by zero"),
        ("missing_name", "line 4: NameError: name 'missing_name' is not defined"),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(body, sentence, tmp_path):
    path = written(tmp_path, "def get_config():", f"    return {body}")
    told = refusal(path)
    assert told.startswith(f"{path}, line 4: ") and sentence in told


def test_a_file_that_is_no_python_is_named_with_its_line(tmp_path):
    path = written(tmp_path, "def get_config(:")
    assert refusal(path).startswith(f"{path}, line 3: SyntaxError: ")
    path = written(tmp_path, "import no_such_package")
    assert "line 3: ModuleNotFoundError: " in refusal(path)


def test_a_setting_of_another_type_is_named(tmp_path):
    path = written(tmp_path, "def get_config():", '    return Config(num_steps="9")')
    assert refusal(path) == "num_steps is '9'; it must be a whole number"


def test_a_setting_that_was_smuggled_in_is_named(tmp_path):
    path = written(
        tmp_path,
        "def get_config():",
        "    config = Config()",
        '    object.__setattr__(config.teacher, "num_samples", "four")',
        "    return config",
    )
    assert refusal(path) == ("teacher.num_samples is 'four'; it must be a whole number")


def test_a_sentence_of_the_file_itself_is_left_as_it_is(tmp_path):
    path = written(
        tmp_path,
        "from fusionproxy_jax.errors import FusionProxyError",
        "def get_config():",
        '    raise FusionProxyError("set MY_DATA first")',
    )
    assert refusal(path) == "set MY_DATA first"


def test_a_configuration_of_another_kind_is_refused(tmp_path):
    path = written(tmp_path, "def get_config():", "    return Config()")
    assert isinstance(load_experiment(str(path), Config), Config)
    assert refusal(path, TeacherTrainingConfig) == (
        f"get_config() of {path} returns a Config; this command needs a "
        "TeacherTrainingConfig"
    )
    path = written(tmp_path, "def get_config():", "    pass")
    assert "returns a NoneType; this command needs a Config" in refusal(path)

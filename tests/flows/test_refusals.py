"""What the command line refuses before anything is done: one line that names the option or the file."""

import pytest

from flows.cli import main
from pipeline.errors import ConfigError
from pipeline.job import load_job
from pipeline.storage import versions
from pipeline.workflow import restart_from


@pytest.fixture
def refused(capsys):
    """Run a verb in this process that refuses; returns exit code and its one line."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        (line,) = capsys.readouterr().err.strip().splitlines()
        return ended.value.code, line

    return call


def test_show_takes_two_products_at_most(refused):
    code, line = refused("show", "a", "b", "--against", "c")
    assert code == 2
    assert "--against: two products are named already" in line


def test_a_summary_that_lacks_a_number_names_it(refused, tmp_path, monkeypatch):
    (tmp_path / "product.zarr").mkdir()
    monkeypatch.setattr(versions, "intact", lambda version: version)
    (tmp_path / "summary.json").write_text('{"kinetics": 3}')
    code, line = refused("show", tmp_path)
    assert code == 1
    assert "; `trxas validate` lists every fault, processing again writes it anew" in line


def test_init_keeps_what_is_there(refused, tiny, tmp_path):
    (tmp_path / "config.yaml").touch()
    code, line = refused("init", tiny.out / "raw", "-o", tmp_path / "config.yaml")
    assert code == 2
    assert "config.yaml exists and is kept; write to another file with -o FILE" in line
    code, line = refused("init", tiny.out / "raw", "-o", tmp_path / "nowhere" / "config.yaml")
    assert code == 2
    assert line.endswith(f"{tmp_path / 'nowhere'} is not a folder")


def test_a_stage_that_there_is_not(refused, tiny, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"--from nowhere: not one of .*frames.*fits"):
        restart_from(None, "nowhere")


def test_deploy_needs_a_server_and_one_schedule(refused, tiny, tmp_path, monkeypatch):
    from flows import server

    monkeypatch.setattr(server, "is_persistent", lambda: False)
    given = ("deploy", tiny.out / "config.yaml", "--out", tmp_path)
    assert refused(*given, "--interval", 60, "--cron", "* * * * *") == (
        2,
        "trxas: --interval and --cron: give one of them",
    )
    code, line = refused(*given)
    assert code == 2
    assert "PREFECT_API_URL: deployments need a Prefect server: run `prefect server start`" in line


def test_a_config_that_is_not_there(refused, tmp_path):
    code, line = refused("deploy", tmp_path / "nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml: cannot be read (No such file or directory)" in line


def test_work_is_on_a_file_system(tiny):
    with pytest.raises(ConfigError, match="--work memory://work: must be a folder on a file system; products may go"):
        load_job(tiny.out / "config.yaml", work="memory://work")

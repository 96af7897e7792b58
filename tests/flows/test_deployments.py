"""Schedules: in Prefect's words, wrong ones refused in one line, and the data's or a command's news found once."""

import socket

import pytest
from projects import ROOT, downsize, make_project, run

from flows.deployments import data_version, deployment, look
from tasks.params import Timetable, Watch

SMOKE = (ROOT / "params.smoke.yaml").read_text()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("schedule") / "project")


@pytest.mark.parametrize(("overlap", "strategy"), [("queue", "ENQUEUE"), ("cancel", "CANCEL_NEW")])
def test_one_run_at_a_time_and_the_next_waits_or_goes(project, overlap, strategy):
    options = deployment(project, project / "params.yaml", Timetable(interval_s=60, overlap=overlap))
    assert options["concurrency_limit"].limit == 1
    assert options["concurrency_limit"].collision_strategy == strategy
    assert options["parameters"] == {"params": "params.yaml", "where": "scheduled"}


def test_cron_has_its_time_zone(project):
    options = deployment(project, project / "params.yaml", Timetable(cron="0 3 * * *", timezone="Europe/Berlin"))
    assert [(clock.cron, clock.timezone) for clock in options["schedules"]] == [("0 3 * * *", "Europe/Berlin")]


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ('{cron: "61 3 * * *"}', "schedule.cron is '61 3 * * *'; it must be minute hour day month weekday"),
        ('{cron: "0 3 *"}', "schedule.cron is '0 3 *': needs five fields"),
        ('{cron: "0 3 * * *", timezone: Mars/Base}', "schedule.timezone is 'Mars/Base'; it must be such as"),
        ('{cron: "0 3 * * *", interval_s: 60}', "cron and interval_s exclude each other"),
        ("{}", "schedule has neither cron, interval_s nor watch"),
        ("{interval_s: 60, overlap: both}", "schedule.overlap is 'both'"),
    ],
)
def test_a_wrong_schedule_is_one_line(project, schedule, says):
    (project / "params.yaml").write_text(SMOKE.replace("schedule: {}", f"schedule: {schedule}"))
    done = downsize(project, "serve", check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_a_silent_server_is_one_line_without_its_password(project, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}/api"
    (project / "params.yaml").write_text(SMOKE.replace("schedule: {}", "schedule: {interval_s: 60}"))
    for verb in (("run",), ("serve",), ("serve", "--pool", "nightly")):
        done = run(project, "env", f"PREFECT_API_URL=http://me:hunter2@{address}", "downsize", *verb, check=False)
        assert done.returncode == 75 and len(done.stderr.splitlines()) == 1
        assert f"PREFECT_API_URL: Prefect server http://***@{address} does not answer" in done.stderr


def test_a_work_pool_needs_a_server(project):
    (project / "params.yaml").write_text(SMOKE.replace("schedule: {}", "schedule: {interval_s: 60}"))
    done = downsize(project, "serve", "--pool", "nightly", check=False)
    assert done.returncode == 1 and "--pool nightly: needs the server whose workers run it" in done.stderr


def news(project, watch):
    """What a look found, and that it started as many runs."""
    started = []
    reasons = look(project, watch, pull=False, start_run=lambda: started.append(1))
    assert len(started) == bool(reasons)
    return reasons


def unreachable():
    raise ConnectionError("no server")


def test_changed_data_is_news_once(project):
    watch = Watch(every_s=1)
    assert news(project, watch) == []
    assert news(project, watch) == []
    before = data_version(project, pull=False)
    (project / "data/more.csv").write_text("a,b\n1,2\n")
    assert data_version(project, pull=False) != before
    with pytest.raises(ConnectionError):
        look(project, watch, pull=False, start_run=unreachable)
    assert news(project, watch) == ["the data has changed"]  # as no run has seen it yet
    assert news(project, watch) == []


def test_a_command_that_finds_drift_is_news_until_it_finds_none(project):
    watch = Watch(every_s=1, data=False, command="exit $(cat code)")
    looks = []
    for code in (0, 3, 3, 1, 3, 0, 3):  # one that fails says nothing of drift
        (project / "code").write_text(str(code))
        looks.append(len(news(project, watch)))
    assert looks == [0, 1, 0, 0, 0, 0, 1]


def test_a_command_that_fails_starts_no_run_but_is_logged(project, caplog):
    watch = Watch(every_s=1, data=False, command="echo 'downsize: no such file' >&2; exit 1")
    assert news(project, watch) == []
    assert "failed: downsize: no such file" in caplog.text

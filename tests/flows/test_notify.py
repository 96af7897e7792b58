"""People are told once, with the right words, and a message that cannot be sent harms nothing."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from projects import ROOT

from flows.notify import announced, notify, tell_failure
from tasks.params import Notify, load_params

PARAMS = load_params(ROOT / "params.smoke.yaml")


def recipe(**settings):
    return PARAMS.model_copy(update={"notify": Notify.model_validate(settings)})


def serving(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def hook():
    """A web server that keeps the paths and bodies it is sent."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(500 if "broken" in self.path else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving(server)
        yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", received=received)
        server.shutdown()


@pytest.fixture
def mailbox():
    """A mail server that keeps what it is sent, as lines."""
    lines = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 sink\r\n")
            data = False
            for raw in self.rfile:
                line = raw.decode().rstrip("\r\n")
                lines.append(line)
                if data:
                    data = line != "."
                    self.wfile.write(b"" if data else b"250 kept\r\n")
                elif line.upper() == "DATA":
                    data = True
                    self.wfile.write(b"354 go on\r\n")
                else:
                    self.wfile.write(b"221 bye\r\n" if line == "QUIT" else b"250 ok\r\n")
                    if line == "QUIT":
                        return

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        serving(server)
        yield SimpleNamespace(address=f"127.0.0.1:{server.server_address[1]}", lines=lines)
        server.shutdown()


def test_a_webhook_gets_the_event_with_its_secret_from_the_environment(hook, monkeypatch):
    monkeypatch.setenv("CHAT_TOKEN", "s3cret")
    notify("champion", recipe(webhook=hook.url + "/${CHAT_TOKEN}"), "downsize: champion is now version 2")
    ((path, body),) = hook.received
    assert path == "/s3cret"
    assert body["event"] == "champion" and body["text"] == "downsize: champion is now version 2"
    assert body["model"] == "downsize-smoke"


def test_an_e_mail_names_event_model_and_reason(mailbox):
    email = {"to": ["a@example.org", "b@example.org"], "sender": "c@example.org", "server": mailbox.address}
    notify("refused", recipe(email=email), "version 3 has gate 'fail'")
    assert "Subject: Downsize: refused, downsize-smoke" in mailbox.lines
    assert "text: version 3 has gate 'fail'" in mailbox.lines
    assert sum(line.lower().startswith("rcpt to") for line in mailbox.lines) == 2


def test_an_event_that_nobody_asked_for_is_not_sent(hook):
    notify("failure", recipe(webhook=hook.url, events=["champion"]), "x")
    assert hook.received == []


@pytest.mark.parametrize(
    ("webhook", "says"),
    [
        ("http://127.0.0.1:9/", "refused"),
        ("http://user:${NO_SUCH_VARIABLE}@127.0.0.1:9/", "NO_SUCH_VARIABLE, which the environment lacks"),
        ("${CHAT_TOKEN}", "must start with http:// or https://"),
    ],
)
def test_a_message_that_cannot_be_sent_is_one_line_without_secrets(webhook, says, monkeypatch, caplog):
    monkeypatch.setenv("CHAT_TOKEN", "s3cret")
    notify("failure", recipe(webhook=webhook), "x")
    (line,) = caplog.messages
    assert line.startswith("notify: webhook: ") and says in line and "s3cret" not in line


def test_a_server_that_breaks_is_one_line(hook, caplog):
    notify("failure", recipe(webhook=hook.url + "/broken"), "x")
    assert "HTTP Error 500" in caplog.text


def test_a_failed_flow_run_is_told_with_stage_reason_and_the_way_on(hook, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        (ROOT / "params.smoke.yaml").read_text().replace("notify: {}", f"notify: {{webhook: '{hook.url}'}}")
    )
    run = SimpleNamespace(id="7", name="red-fox", parameters={"params": str(path)})
    tell_failure(None, run, SimpleNamespace(message="StageFailed: teacher: broken; `downsize run` goes on from there"))
    ((_, body),) = hook.received
    assert body["event"] == "failure" and body["flow_run"] == "7"
    assert body["text"] == "run red-fox: StageFailed: teacher: broken; `downsize run` goes on from there"


def test_a_refused_move_is_told_and_still_refused(hook, tmp_path):
    @announced
    def move(root, params):
        raise ValueError("version 3 has gate 'fail'")

    with pytest.raises(ValueError, match="gate 'fail'"):
        move(tmp_path, recipe(webhook=hook.url))
    assert [body["event"] for _, body in hook.received] == ["refused"]


@pytest.mark.parametrize(("action", "told"), [("promote", ["champion"]), ("rollback", ["champion"]), ("none", [])])
def test_a_new_champion_is_told_and_an_old_one_is_not(hook, tmp_path, action, told):
    announced(lambda root, params: SimpleNamespace(action=action))(tmp_path, recipe(webhook=hook.url))
    assert [body["event"] for _, body in hook.received] == told


def test_a_password_in_the_params_is_refused():
    with pytest.raises(ValueError, match=r"holds a password; write \$\{VARIABLE\}"):
        recipe(webhook="https://user:hunter2@chat.example/x")

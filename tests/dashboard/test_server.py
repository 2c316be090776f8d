"""The web server: loopback, no file, no other site."""

import socket
import urllib.error
import urllib.request

import psutil
import pytest
from bokeh.server.util import check_allowlist
from bokeh.settings import settings

from flows.cli import main


def test_it_serves_the_page_and_no_file(serve, out):
    address = serve(out)
    with urllib.request.urlopen(f"{address}/") as answer:
        page = answer.read().decode()
    assert "trxas" in page
    assert "https://" not in page.replace("https://www.w3.org", "")
    for path in (
        "/products/seed/v0001/summary.json",
        "/seed/v0001/summary.json",
        "/static/../../products/seed/latest.json",
        "/static/..%2f..%2fetc/passwd",
        "/components/pipeline.dashboard.app/Session/../../x",
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address + path)
        assert refused.value.code in (400, 403, 404)


def test_it_listens_on_loopback_and_talks_to_its_own_pages_only(serve, out):
    address = serve(out)
    port = int(address.rsplit(":", 1)[1])
    listening = [c.laddr for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"]
    assert {at.ip for at in listening if at.port == port} == {"127.0.0.1"}
    allowed = settings.allowed_ws_origin()
    # a tunnel may give another port
    for host in (f"127.0.0.1:{port}", "localhost:9999"):
        assert check_allowlist(host, allowed)
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}"):
        assert not check_allowlist(host, allowed)


@pytest.mark.parametrize("wrong", ["folder", "port", "host"])
def test_wrong_use_is_one_line(wrong, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = {
            "folder": [str(tmp_path / "nothing")],
            "port": [str(tmp_path), "--port", str(taken.getsockname()[1])],
            "host": [str(tmp_path), "--host", "192.0.2.1", "--port", "0"],
        }[wrong]
        with pytest.raises(SystemExit) as ended:
            main(["dashboard", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert {"folder": "is not a folder", "port": "choose another", "host": "choose another"}[wrong] in said[0]

"""`basewise models`: import, show, LoRA dry run, and fetch: without a network, and from a hub that runs in this process."""

import json
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
import torch

from basewise.backbones.checkpoints import load_official
from basewise.backbones.classifier import load_classifier
from basewise.testing.published import write_published

COMMIT = "ab" * 20


def test_import_show_and_predict(basewise, tmp_path):
    published = write_published(tmp_path / "published", "nucleotide_transformer_v2", classes=2, weights="pytorch_model.bin")
    done = basewise("models", "import", published, "-o", tmp_path / "model")
    assert done.stdout.strip() == f"{tmp_path / 'model'}\tclassifier"
    assert "NON-COMMERCIAL" in done.stderr
    assert load_classifier(tmp_path / "model").config.provenance["licence"] == "CC-BY-NC-SA-4.0"
    shown = json.loads(basewise("models", "show", tmp_path / "model", "--json").stdout)
    assert shown["backbone"]["family"] == "nucleotide_transformer"
    assert shown["files"].keys() >= {"config.json", "model.safetensors", "vocab.txt"}
    (tmp_path / "in.csv").write_text("sequence\nACGTACGTAC\nGATTACA\n")
    basewise("predict", tmp_path / "model", tmp_path / "in.csv", "-o", tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["probability"].between(0, 1).all()


def test_import_of_another_model_than_said(basewise, tmp_path):
    published = write_published(tmp_path / "published", "dnabert2")
    done = basewise("models", "import", published, "-o", tmp_path / "out", "--name", "dnabert2-117m", code=1)
    assert done.stderr.startswith("error: ")
    assert "is not dnabert2-117m" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_lora_dry_run(basewise, tmp_path):
    published = write_published(tmp_path / "published", "hyenadna")
    lines = basewise("models", "lora", published, "-p", "mixer", "--rank", "2").stdout.splitlines()
    assert [line.split() for line in lines[:2]] == [["128", "backbone.layers.0.mixer.in_proj"], ["64", "backbone.layers.0.mixer.out_proj"]]


def test_fetch_without_a_network(basewise, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = basewise("models", "fetch", "nt-v2-50m", "-o", tmp_path / "nt", code=1)
    notice, error = done.stderr.splitlines()
    assert "NON-COMMERCIAL" in notice
    assert "could not download InstaDeepAI/nucleotide-transformer-v2-50m-multi-species" in error
    assert "at revision 81b29e57" in error
    assert "basewise models import FOLDER -o DIR" in error
    assert "Did you mean 'nt-v2-50m'" in basewise("models", "fetch", "nt-v2-50", code=1).stderr


class Hub(ThreadingHTTPServer):
    """What of the hub's protocol a download needs, for the files of one folder; `broken` sends half of the weights and hangs up."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.broken, self.ranges = folder, False, []

    def handle_error(self, request, client_address):
        """A client that goes away is no news."""


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            files = sorted(self.server.folder.iterdir())
            tree = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40} for f in files]
            model = {"id": "x/y", "_id": "0", "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files], "tags": []}
            raw, extra, start = json.dumps(tree if "/tree/" in path else model).encode(), {}, 0
        else:
            file = self.server.folder / path.rsplit("/", 1)[1]
            if not file.is_file():
                self.send_error(404)
                return
            raw = file.read_bytes()
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
            if asked and body and start:
                self.server.ranges.append((file.name, start))
            extra = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256(raw).hexdigest()}"', "Accept-Ranges": "bytes"}
            if start:
                extra["Content-Range"] = f"bytes {start}-{len(raw) - 1}/{len(raw)}"
        if self.server.broken and body and path.endswith(".safetensors") and start:
            self.send_error(503)
            return
        self.send_response(206 if start else 200)
        for key, value in {**extra, "Content-Length": str(len(raw) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            cut = len(raw) // 2 if self.server.broken and path.endswith(".safetensors") else len(raw)
            self.wfile.write(raw[start:cut])
            self.wfile.flush()
            self.close_connection = cut < len(raw)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = Hub(write_published(tmp_path / "hub", "hyenadna"))
    (server.folder / "modeling_hyena.py").write_text("raise SystemExit\n")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("BASEWISE_MODELS", str(tmp_path / "models"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetch_resumes_and_verifies(basewise, hub, tmp_path):
    hub.broken = True
    done = basewise("models", "fetch", "hyenadna-tiny-1k", code=1)
    whole = (hub.folder / "model.safetensors").read_bytes()
    half = len(whole) // 2
    assert f"model.safetensors broke off at {half:,} of {len(whole):,} bytes; run it again" in done.stderr
    folder = tmp_path / "models/hyenadna-tiny-1k"
    assert not (folder / "source.json").exists()
    assert not (folder / "model.safetensors").exists()

    hub.broken, hub.ranges = False, []
    done = basewise("models", "fetch", "hyenadna-tiny-1k")
    assert done.stdout.strip() == f"{folder}\tLongSafari/hyenadna-tiny-1k-seqlen-hf@{COMMIT}"
    assert hub.ranges == [("model.safetensors", half)]  # from where it broke off, not from the start
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == ["config.json", "model.safetensors", "source.json"]
    assert (folder / "model.safetensors").read_bytes() == whole
    source = json.loads((folder / "source.json").read_text())
    assert (source["name"], source["revision"]) == ("hyenadna-tiny-1k", COMMIT)
    hub.ranges = []
    (folder / "config.json").unlink()
    begun = (folder / "model.safetensors").stat().st_mtime_ns
    basewise("models", "fetch", "hyenadna-tiny-1k")
    assert (folder / "model.safetensors").stat().st_mtime_ns == begun  # what is there is not downloaded again
    assert (folder / "config.json").is_file()
    (folder / "model.safetensors").write_bytes(whole[:-1] + b"?")  # same size, another content
    basewise("models", "fetch", "hyenadna-tiny-1k")
    assert (folder / "model.safetensors").read_bytes() == whole
    backbone, tokenizer = load_official(folder)
    tokens = tokenizer.tokenize(["ACGT"])
    assert torch.isfinite(backbone.encode(backbone.embed(tokens.ids), tokens.mask)).all()


def test_fetch_of_files_that_are_not_those_known(basewise, hub):
    done = basewise("models", "fetch", "hyenadna-medium-160k", code=1)
    assert "is not hyenadna-medium-160k: model.safetensors has" in done.stderr
    assert "expected 56971992" in done.stderr

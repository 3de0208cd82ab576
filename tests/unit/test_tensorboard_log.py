"""The event file beside log.jsonl: the same numbers, in the format TensorBoard reads."""

import json
import struct

import pytest

from basewise.training import runs
from basewise.training.tensorboard import NAME, masked_crc32c, scalars

LINES = [
    {"step": 10, "loss": 0.5, "lr": 1e-3},
    {"step": 10, "best_step": 10, "validation": {"auroc": 0.75, "f1": None, "constant": False}},
    {"step": 300, "loss": 0.25, "lr": 1e-4},
]


def write(folder, lines, step=0):
    log = runs.Log(folder / "log.jsonl", step)
    for line in lines:
        log.write(**line)
    return folder / NAME


def test_numbers_of_a_line_and_nothing_else():
    assert list(scalars(LINES[0])) == [("loss", 0.5), ("lr", 1e-3)]
    assert list(scalars(LINES[1])) == [("best_step", 10.0), ("validation/auroc", 0.75)]


def test_checksum_of_the_published_vectors():
    def unmasked(value):
        turned = (value - 0xA282EAD8) & 0xFFFFFFFF
        return (turned >> 17 | turned << 15) & 0xFFFFFFFF

    # RFC 3720, B.4
    assert unmasked(masked_crc32c(bytes(32))) == 0x8A9136AA
    assert unmasked(masked_crc32c(b"\xff" * 32)) == 0x62A8AB43
    assert unmasked(masked_crc32c(bytes(range(32)))) == 0x46DD794E


def test_records_follow_one_another(tmp_path):
    data = write(tmp_path, LINES).read_bytes()
    at, count = 0, 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        assert struct.unpack_from("<I", data, at + 8)[0] == masked_crc32c(data[at : at + 8])
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked_crc32c(data[at + 12 : at + 12 + length])
        at += 16 + length
        count += 1
    assert count == 1 + len(LINES)  # the version comes first


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_it_back(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(tmp_path, LINES)
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    assert set(read.Tags()["scalars"]) == {"loss", "lr", "best_step", "validation/auroc"}
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(10, 0.5), (300, 0.25)]
    assert [(e.step, e.value) for e in read.Scalars("validation/auroc")] == [(10, 0.75)]


def test_resuming_drops_what_lies_beyond_the_checkpoint(tmp_path):
    before = write(tmp_path, LINES[:2]).stat().st_size
    runs.Log(tmp_path / "log.jsonl", 10).write(**LINES[2])
    path = write(tmp_path, [], step=10)  # killed behind step 300, resumed at 10
    assert path.stat().st_size == before
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [10, 10]
    assert write(tmp_path, [], step=0).stat().st_size < before

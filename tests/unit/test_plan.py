"""Plans of scans: tiles, differences, and which output folders may be used."""

import fcntl
import json
import os
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from basewise.errors import BasewiseError
from basewise.files import MARKER
from basewise.inference.plan import PARTS, PLAN, RUN, Plan, Tile, claim, differences, finish, make_tiles, share_parts
from basewise.inference.regions import Regions

FACTS = {"genome sha256": "a" * 64, "threshold": 0.5, "regions sha256": None}
PLAN_OF_TWO = Plan(FACTS, make_tiles({"x": 150, "empty": 0}, 100))


def test_tiles_lie_on_a_grid_and_skip_empty_contigs():
    assert make_tiles({"x": 250, "empty": 0, "y": 100}, 100) == (
        Tile(0, "x", 0, 100),
        Tile(1, "x", 100, 200),
        Tile(2, "x", 200, 250),
        Tile(3, "y", 0, 100),
    )


def test_tiles_outside_regions_are_left_out():
    regions = Regions({"x": [199, 201]})
    assert [str(tile) for tile in make_tiles({"x": 250, "y": 100}, 100, regions)] == ["x:100-200", "x:200-250"]


def test_differences_name_what_changed():
    then = {"genome sha256": "a" * 64, "threshold": 0.5, "old": 1}
    now = {"genome sha256": "b" * 64, "threshold": 0.5, "regions sha256": None, "device": "cuda"}
    assert differences(then, now) == [
        "genome sha256 was aaaaaaaaaaaa..., is bbbbbbbbbbbb...",
        "device was none, is cuda",
        "old was 1, is none",
    ]


def test_plan_hash_is_that_of_the_facts():
    assert PLAN_OF_TWO.sha256 == Plan(dict(reversed(FACTS.items())), ()).sha256
    assert PLAN_OF_TWO.sha256 != replace(PLAN_OF_TWO, facts={**FACTS, "threshold": 0.6}).sha256


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_part(folder, tile):
    pq.write_table(pa.table({"position": [tile.start]}), folder / tile.part)


def test_new_interrupted_merged_finished(tmp_path):
    out = tmp_path / "deep" / "out"
    first, second = PLAN_OF_TWO.tiles
    with claim(out, PLAN_OF_TWO) as claimed:
        assert (claimed.done, claimed.merged) == (frozenset(), False)
        write_part(claimed.parts, first)
    (out / PARTS / ".partial-x-0000001.parquet").write_text("half")
    (out / ".partial-y-sites.bed.gz").write_text("half")
    with claim(out, PLAN_OF_TWO) as claimed:
        assert claimed.done == {first.index}
        assert sorted(path.name for path in out.rglob("*")) == sorted([MARKER, PLAN, PARTS, first.part])
        write_part(claimed.parts, second)
        finish(claimed, PLAN_OF_TWO, {"note": "hello"})
    assert names(out) == sorted([MARKER, RUN])
    run = json.loads((out / RUN).read_text())
    assert (run["note"], run["merged"], run["sha256"], run["tiles"]) == ("hello", True, PLAN_OF_TWO.sha256, 2)
    with pytest.raises(BasewiseError, match=r"finished scan.*--force"), claim(out, PLAN_OF_TWO):
        pass
    with claim(out, PLAN_OF_TWO, force=True) as claimed:
        assert claimed.done == frozenset()
        assert not (out / RUN).exists()


def test_killed_while_tidying_ends_as_finished(tmp_path):
    with claim(tmp_path / "out", PLAN_OF_TWO) as claimed:
        pass
    plan = json.loads((tmp_path / "out" / PLAN).read_text())
    (tmp_path / "out" / PLAN).write_text(json.dumps({**plan, "merged": True}))
    (tmp_path / "out" / PARTS).rmdir()
    with claim(tmp_path / "out", PLAN_OF_TWO) as claimed:
        assert claimed.merged


def test_killed_before_the_plan_was_written_is_a_new_start(tmp_path):
    (tmp_path / MARKER).touch()
    (tmp_path / PARTS).mkdir()
    (tmp_path / ".partial-abc-plan.json").write_text("{")
    with claim(tmp_path, PLAN_OF_TWO):
        assert names(tmp_path) == sorted([MARKER, PLAN, PARTS])


def test_another_plan_is_refused_with_its_differences_and_replaced_by_force(tmp_path):
    with claim(tmp_path, PLAN_OF_TWO):
        pass
    other = replace(PLAN_OF_TWO, facts={**FACTS, "threshold": 0.9})
    with pytest.raises(BasewiseError, match=r"another plan \(threshold was 0.5, is 0.9\).*--no-resume"), claim(tmp_path, other):
        pass
    with claim(tmp_path, other, force=True):
        assert json.loads((tmp_path / PLAN).read_text())["facts"]["threshold"] == 0.9


def test_a_damaged_part_is_done_again(tmp_path):
    with claim(tmp_path, PLAN_OF_TWO) as claimed:
        for tile in PLAN_OF_TWO.tiles:
            write_part(claimed.parts, tile)
    part = tmp_path / PARTS / PLAN_OF_TWO.tiles[0].part
    part.write_bytes(part.read_bytes()[:20])
    with claim(tmp_path, PLAN_OF_TWO) as claimed:
        assert claimed.done == {1}
        assert not part.exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_strangers_folder_is_never_touched(tmp_path, force):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BasewiseError, match=r"exists and is not empty|not made by basewise"), claim(tmp_path, PLAN_OF_TWO, force=force):
        pass
    assert names(tmp_path) == ["thesis.tex"]


def test_a_file_as_output_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(BasewiseError, match="is a file, expected a folder"), claim(tmp_path / "out", PLAN_OF_TWO):
        pass


def test_two_scans_cannot_have_one_folder(tmp_path):
    with claim(tmp_path, PLAN_OF_TWO), pytest.raises(BasewiseError, match="another basewise"), claim(tmp_path, PLAN_OF_TWO):
        pass


def test_resume_waits_for_workers_of_a_killed_scan(tmp_path, monkeypatch):
    monkeypatch.setattr("basewise.inference.plan._ORPHANS_WAIT", 0.1)
    with claim(tmp_path, PLAN_OF_TWO) as claimed:
        parts = claimed.parts
    with share_parts(parts), pytest.raises(BasewiseError, match="earlier scan still write"), claim(tmp_path, PLAN_OF_TWO):
        pass
    with claim(tmp_path, PLAN_OF_TWO):
        pass


def test_workers_do_not_begin_while_somebody_tidies(tmp_path):
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(BasewiseError, match="tidying"), share_parts(tmp_path):
        pass
    os.close(handle)


def test_disk_errors_are_one_line_that_says_how_to_go_on(tmp_path):
    with pytest.raises(BasewiseError, match=r"No space left on device; what is done is kept"), claim(tmp_path, PLAN_OF_TWO):
        raise OSError(28, "No space left on device")

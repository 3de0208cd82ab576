"""Golden cases of all four families, and, with --official DIR, the stored vectors of the published checkpoints themselves."""

import json
import subprocess
import sys

import pytest
import torch

from basewise.backbones.checkpoints import load_official
from basewise.testing.golden import main, run_model_case, run_tokenizer_case

TOLERANCE = 1e-5  # of max(1, largest golden value), float32 on the CPU; the golden fixtures' own noise is at most 2.6e-6
CASES = {  # case -> outputs compared, so that a case cannot become empty unseen
    "dnabert2/mlm": 36,
    "dnabert2/seqcls": 9,
    "gena_lm/mlm_last_ln": 28,
    "gena_lm/mlm_no_last_ln": 28,
    "gena_lm/pretraining": 4,
    "gena_lm/seqcls": 6,
    "hyenadna/seqcls": 10,
    "hyenadna/standalone_pool_head": 9,
    "hyenadna/tiny_bare": 8,
    "hyenadna/tiny_ckpt_checkpointed": 10,
    "hyenadna/real_tiny1k": 16,
    "nucleotide_transformer/v1_mlm": 27,
    "nucleotide_transformer/v1_mlm_position_ids": 2,
    "nucleotide_transformer/v1_seqcls": 4,
    "nucleotide_transformer/v2_mlm": 27,
    "nucleotide_transformer/v2_seqcls": 4,
}


@pytest.mark.data
@pytest.mark.parametrize("case", CASES)
def test_golden_case(case, shared):
    result = run_model_case(shared / "golden/dev" / case)
    assert result.compared == CASES[case]
    assert result.difference <= TOLERANCE, result


@pytest.mark.data
def test_runner_says_when_a_case_is_over(shared, tmp_path, capsys):
    source = shared / "golden/dev/dnabert2/seqcls"
    folder = tmp_path / "set/dnabert2/seqcls"
    folder.mkdir(parents=True)
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert main([str(tmp_path / "set")]) == 0
    assert "9 compared" in capsys.readouterr().out
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    assert main([str(tmp_path / "set")]) == 1
    assert capsys.readouterr().out.startswith("OVER  dnabert2/seqcls")
    assert main([str(tmp_path / "set"), "--tolerance", "1"]) == 0


def test_runner_needs_cases(tmp_path):
    done = subprocess.run([sys.executable, "-m", "basewise.testing.golden", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no golden cases" in done.stderr


@pytest.mark.data
def test_a_wrong_id_is_told(shared, tmp_path):
    cases = json.loads((shared / "golden/dev/tokenizers/nt_v2.json").read_text())
    cases[5]["ids"] = [3, 4]
    (tmp_path / "nt_v2.json").write_text(json.dumps(cases))
    result = run_tokenizer_case(tmp_path / "nt_v2.json", shared / "golden/tokenizer_files")
    assert (result.compared, result.difference) == (60, 1.0)


def oracles(shared):
    for vector in json.loads((shared / "golden/official_oracles.json").read_text()):
        if "aduceus" not in vector["repo"]:
            yield vector


@pytest.mark.data
def test_published_checkpoints(shared, official_folder):
    """Mean over all tokens of the last hidden state, against vectors a third party computed with the official code."""
    tried = 0
    for vector in oracles(shared):
        folder = official_folder / vector["repo"].split("/")[1]
        if not folder.is_dir():
            continue
        tried += 1
        backbone, tokenizer = load_official(folder)
        want = torch.tensor(vector["values"])
        sequence = vector["sequence"] or vector["sequence_inferred"]
        # the HyenaDNA vectors do not say whether [SEP] was appended
        for special in (True, False) if backbone.family == "hyenadna" else (True,):
            tokens = tokenizer.tokenize([sequence], special_tokens=special, policy="official")
            if vector["input_ids"]:
                assert tokens.ids[0].tolist() == vector["input_ids"]
            with torch.inference_mode():
                got = backbone.encode(backbone.embed(tokens.ids), tokens.mask)[0].mean(0)
            difference = (got - want).abs().max() / max(1.0, want.abs().max())
            if difference < 1e-4:
                break
        assert difference < 1e-4, vector["file"]
    assert tried, f"{official_folder} holds none of the folders named as the repositories in official_oracles.json"

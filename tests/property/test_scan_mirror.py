"""Scanning the other strand of a genome gives the mirror image of scanning the genome."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from basewise.backbones.classifier import save_classifier
from basewise.genome.alphabet import reverse_complement
from basewise.inference import engine
from basewise.inference.scan import ScanOptions, scan
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.models import tiny_classifier

OTHER = {"+": "-", "-": "+"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_classifier(tiny_classifier(window=101), tmp_path_factory.mktemp("model") / "m")


@given(seed=st.integers(0, 10**6), length=st.integers(101, 2500), n_runs=st.integers(0, 4))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scan_of_the_other_strand_is_the_mirror_image(model, tmp_path_factory, seed, length, n_runs, monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 256)
    monkeypatch.setattr(engine, "_CHUNKS_A_CELL", {"cpu": 2})
    folder = tmp_path_factory.mktemp("mirror")
    contigs = random_genome(seed, {"a": length, "b": 101}, n_runs=n_runs, soft_mask=0.2, iupac=0.01, at=0.75)
    tables, sites = [], []
    for name, genome in (("there", contigs), ("back", {key: reverse_complement(bases) for key, bases in contigs.items()})):
        fasta = write_fasta(folder / f"{name}.fa", genome)
        scan(ScanOptions(fasta, folder / name, str(model), workers=1, tile_size=512))
        tables.append(pq.read_table(folder / name / "candidates.parquet").to_pandas())
        sites.append(pd.read_csv(folder / name / "sites.bed.gz", sep="\t"))
    there, back = tables
    lengths = back["chrom"].map({key: len(bases) for key, bases in contigs.items()}).astype(np.int64)
    mirrored = back.assign(position=lengths - 1 - back["position"], strand=back["strand"].map(OTHER))
    mirrored = mirrored.sort_values(["chrom", "position", "strand"], ignore_index=True)
    pd.testing.assert_frame_equal(there.drop(columns="probability"), mirrored.drop(columns="probability"), check_dtype=False)
    np.testing.assert_allclose(there["probability"], mirrored["probability"], atol=1e-6)
    ends = {key: len(bases) for key, bases in contigs.items()}
    here = {(row["#chrom"], row.start, row.strand, row.n_in_cluster) for _, row in sites[0].iterrows()}
    turned = {(row["#chrom"], ends[row["#chrom"]] - row.end, OTHER[row.strand], row.n_in_cluster) for _, row in sites[1].iterrows()}
    assert here == turned

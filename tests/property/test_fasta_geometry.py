"""Whatever the line width, line end and contig lengths: what is fetched is what was written, also through the index on disk."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.errors import BasewiseError
from basewise.genome.fasta import open_genome
from basewise.testing.genomes import bgzip_fasta, random_genome, write_fasta


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 90), min_size=1, max_size=6),
    line=st.integers(1, 40),
    crlf=st.booleans(),
    last_newline=st.booleans(),
    packed=st.booleans(),
    start=st.integers(-30, 120),
    span=st.integers(0, 120),
    block=st.tuples(st.integers(1, 50), st.integers(0, 49)),
)
def test_round_trip(tmp_path_factory, lengths, line, crlf, last_newline, packed, start, span, block):
    contigs = random_genome(len(lengths), {f"c{i} x>y": length for i, length in enumerate(lengths)}, n_runs=1, n_length=9, soft_mask=0.5)
    # a file whose last line is a header without line end is one whose last contig was cut off before its first base
    path = write_fasta(tmp_path_factory.mktemp("g") / "g.fa", contigs, line, crlf=crlf, last_newline=last_newline)
    path = bgzip_fasta(path) if packed else path
    for _ in range(2):  # the second time the index is read, not made
        with open_genome(path) as genome:
            assert list(genome.contigs.values()) == lengths
            for (described, bases), name in zip(contigs.items(), genome.contigs, strict=True):
                assert described.split()[0] == name
                assert genome.fetch(name, 0, len(bases)).tobytes() == bases
                padded = b"N" * 300 + bases + b"N" * 300
                assert genome.window(name, start, start + span).tobytes() == padded[300 + start : 300 + start + span]
                size, overlap = max(block), min(block) if min(block) < max(block) else 0
                pieces = [(at, piece.tobytes()) for at, piece in genome.blocks(name, size, overlap)]
                assert b"".join(piece[overlap if at else 0 :] for at, piece in pieces) == bases
        assert Path(f"{path}.fai").exists()


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=4), line=st.integers(1, 40), crlf=st.booleans(), data=st.data())
def test_a_cut_fasta_never_passes_its_old_index(tmp_path_factory, lengths, line, crlf, data):

    contigs = random_genome(1, {f"c{i}": length for i, length in enumerate(lengths)})
    path = write_fasta(tmp_path_factory.mktemp("g") / "g.fa", contigs, line, crlf=crlf)
    open_genome(path).close()
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\r\n"))
    path.write_bytes(whole[: data.draw(st.integers(0, end - 1))])
    with pytest.raises(BasewiseError):
        open_genome(path)

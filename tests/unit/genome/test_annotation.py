"""Every format of poly(A) sites and genes, on both strands, down to the base."""

import gzip

import numpy as np
import pytest

from basewise.errors import BasewiseError
from basewise.genome.annotation import read_genes, read_sites

GENCODE = """\
##description: polyA
chr1\tHAVANA\tpolyA_signal\t1000\t1005\t.\t+\t.\tgene_id "1"; transcript_id "1"; gene_type "polyA_signal"; gene_name "polyA_signal";
chr1\tHAVANA\tpolyA_site\t1020\t1021\t.\t+\t.\tgene_id "2"; transcript_id "2"; gene_type "polyA_site"; gene_name "polyA_site";
chr1\tHAVANA\tpolyA_site\t5000\t5001\t.\t-\t.\tgene_id "3"; transcript_id "3"; gene_type "polyA_site"; gene_name "polyA_site";
chr2\tHAVANA\tpseudo_polyA\t5000\t5001\t.\t-\t.\tgene_id "4"; transcript_id "4"; gene_type "pseudo_polyA";
"""
GENCODE_GFF3 = """\
##gff-version 3
chr1\tHAVANA\tpolyA_signal\t1000\t1005\t.\t+\t.\tID=1;gene_id=1
chr1\tHAVANA\tpolyA_site\t1020\t1021\t.\t+\t.\tID=2;gene_id=2
chr1\tHAVANA\tpolyA_site\t5000\t5001\t.\t-\t.\tID=3;gene_id=3
"""
# genePred extended with bin: bin name chrom strand txStart txEnd cdsStart cdsEnd exonCount exonStarts exonEnds score name2 ...
GENEPRED = """\
#bin\tname\tchrom\tstrand\ttxStart\ttxEnd\tcdsStart\tcdsEnd\texonCount\texonStarts\texonEnds\tscore\tname2\tcdsStartStat\tcdsEndStat\texonFrames
585\t1\tchr1\t+\t999\t1005\t999\t999\t1\t999,\t1005,\t0\tpolyA_signal\tnone\tnone\t-1,
585\t2\tchr1\t+\t1019\t1021\t1019\t1019\t1\t1019,\t1021,\t0\tpolyA_site\tnone\tnone\t-1,
585\t3\tchr1\t-\t4999\t5001\t4999\t4999\t1\t4999,\t5001,\t0\tpolyA_site\tnone\tnone\t-1,
"""
GENEPRED_IDS = GENEPRED.replace("585\t", "585\tENST").replace("#bin\tENST", "#bin\t")
NO_BIN = "".join(line.split("\t", 1)[1] + "\n" for line in GENEPRED_IDS.splitlines()[1:])
BIN_BED = "585\tchr1\t999\t1005\tpolyA_signal\t0\t+\n585\tchr1\t1019\t1021\tpolyA_site\t0\t+\n585\tchr1\t4999\t5001\tpolyA_site\t0\t-\n"
POLYA_DB = (
    "PAS_ID\tChromosome\tPosition\tStrand\tMean RPM\tIntron/exon location\tEnsembl Gene ID\tRefSeq Gene ID\tGene Symbol\tGene Name\t"
    "Extension\tPAS type\tPSE\tPAS Signal\n"
    "chr1:1021:+\tchr1\t1021\t+\t3.5\t3'-most exon\tENSG1\t12\tABC\tabc\tNO\t3'UTR(L)\t50%\tAATAAA\n"
    "chr1:5000:-\tchr1\t5000\t-\tNA\tIntron\tENSG2\t13\tDEF\tdef\tNO\tIntron\t5%\tNone\n"
)
POLYASITE = "1\t1000\t1030\t1:1021:+\t12.5\t+\t80.0\t5\t12.5\tTE\tAATAAA;-20;1001\n1\t4990\t5010\t1:5000:-\t0.5\t-\t2.0\t1\t0.5\tIN\tNA\n"
BED6 = "chr1\t1020\t1021\tx\t5\t+\nchr1\t4999\t5000\ty\t.\t-\n"
BED_WIDE = "chr1\t1011\t1021\tx\t5\t+\nchr1\t4999\t5009\ty\t.\t-\n"
BED_RENAMED = "chr1\t1020\t1021\tchr1:7:+\t5\t+\nchr1\t4999\t5000\tchr1:8:-\t.\t-\n"


@pytest.mark.parametrize(
    "text", [GENCODE, GENCODE_GFF3, GENEPRED, GENEPRED_IDS, NO_BIN, BIN_BED, POLYA_DB, POLYASITE, BED6, BED_WIDE, BED_RENAMED]
)
@pytest.mark.parametrize("how", ["plain", "gzip", "crlf"])
def test_all_formats_give_the_same_bases(tmp_path, text, how):
    path = tmp_path / "sites"
    raw = text.replace("\n", "\r\n").encode() if how == "crlf" else text.encode()
    path.write_bytes(gzip.compress(raw) if how == "gzip" else raw)
    table = read_sites(path)
    assert table.columns.tolist() == ["chrom", "start", "end", "name", "score", "strand"]
    assert table["start"].tolist() == [1020, 4999]
    assert table["end"].tolist() == [1021, 5000]
    assert table["strand"].tolist() == ["+", "-"]
    assert table["chrom"].tolist() == (["1", "1"] if text is POLYASITE else ["chr1", "chr1"])
    assert table["start"].dtype == np.int64
    assert table["score"].dtype == np.float64


def test_names_and_scores(tmp_path):
    path = tmp_path / "sites"
    path.write_text(POLYA_DB)
    table = read_sites(path)
    assert table["name"].tolist() == ["ABC|3'-most exon|3'UTR(L)", "DEF|Intron|Intron"]
    assert table["score"].iloc[0] == 3.5
    assert np.isnan(table["score"].iloc[1])
    path.write_text(POLYASITE)
    assert read_sites(path)["score"].tolist() == [12.5, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("#x\n", "is empty"),
        (GENCODE.replace("polyA_site\t", "gene\t"), "without polyA_site rows"),
        (GENCODE.replace("1021\t.\t+", "1021\t.\t."), r"line 3: polyA_site has strand '\.'"),
        (GENCODE.replace("1020\t1021", "1021\t1020"), "line 3: start 1021 and end 1020"),
        (GENEPRED.replace("2\tchr1\t+", "2\tchr1\t."), r"line 3 has strand '\.'"),
        (GENEPRED + "chr1\t1\t2\n", "line 5 is no wgEncodeGencodePoly"),
        (BIN_BED.splitlines()[0], "holds no poly"),
        (POLYA_DB.replace("\tStrand\t", "\tSide\t"), "no column Strand"),
        (POLYA_DB.replace("\t1021\t+", "\t1021\t*"), r"line 2 has strand '\*'"),
        (POLYA_DB.replace("\t5000\t", "\t0\t"), "line 3: Position '0'"),
        (POLYA_DB.replace("3.5", "many"), "line 2: Mean RPM 'many'"),
        (POLYA_DB + "chr1:1:+\tchr1\n", "line 4 has 2 columns"),
        (POLYA_DB.splitlines()[0], "holds no poly"),
        (POLYASITE.replace("1:5000:-", "x"), "name is not chrom:position:strand"),
        (POLYASITE.replace("1:5000:-", "1:5011:-"), "does not lie in the interval"),
        (POLYASITE.replace("1:5000:-", "1:5000:+"), "does not lie in the interval"),
        (BED6.replace("\t-", "\t."), "has no strand"),
        ("chr1\t5\t6\nchr1\t8\t9\n", "3 columns, so its sites have no strand"),
        ("chr1\t5\t5\tx\t0\t+\n", "empty interval"),
        (BED6.replace("x", "polyA_signal"), "holds polyA_signal rows"),
        ("a,b,c\n1,2,3\n", "line 1 belongs to no known format"),
        ("hello world again\n", "line 1 belongs to no known format"),
    ],
)
def test_bad_sites_are_refused(tmp_path, text, message):
    path = tmp_path / "sites"
    path.write_text(text)
    with pytest.raises(BasewiseError, match=message):
        read_sites(path)


GTF_GENES = """\
#!genome-build x
chr1\tH\tgene\t101\t200\t.\t+\t.\tgene_id "E1.2"; gene_type "protein_coding"; gene_name "ABC"; level 2;
chr1\tH\ttranscript\t101\t180\t.\t+\t.\tgene_id "E1.2"; transcript_id "T1"; gene_name "ABC";
chr1\tH\texon\t101\t150\t.\t+\t.\tgene_id "E1.2"; transcript_id "T1"; gene_name "ABC";
chr1\tH\tgene\t301\t400\t.\t-\t.\tgene_id "E2"; gene_biotype "lincRNA";
"""
GTF_TRANSCRIPTS = """\
chr1\tH\ttranscript\t101\t180\t.\t+\t.\tgene_id "E1.2"; transcript_id "T1"; gene_name "ABC"; gene_type "protein_coding";
chr1\tH\texon\t101\t120\t.\t+\t.\tgene_id "E1.2"; transcript_id "T1";
chr1\tH\ttranscript\t151\t200\t.\t+\t.\tgene_id "E1.2"; transcript_id "T2"; gene_name "ABC";
chr1\tH\ttranscript\t301\t400\t.\t-\t.\tgene_id "E2"; transcript_id "T3"; gene_biotype "lincRNA";
"""
GFF3 = """\
##gff-version 3
chr1\tE\tgene\t101\t200\t.\t+\t.\tID=gene:E1.2;Name=ABC;biotype=protein_coding;gene_id=E1.2
chr1\tE\tmRNA\t101\t200\t.\t+\t.\tID=transcript:T1;Parent=gene:E1.2
chr1\tE\tncRNA_gene\t301\t400\t.\t-\t.\tID=gene:E2;biotype=lincRNA;gene_id=E2
##FASTA
>chr1
ACGT
"""
GFF3_MRNA = """\
chr1\tE\tmRNA\t101\t150\t.\t+\t.\tID=t1;Parent=E1.2;gene=ABC;biotype=protein_coding
chr1\tE\tmRNA\t131\t200\t.\t+\t.\tID=t2;Parent=E1.2;gene=ABC
chr1\tE\tmRNA\t301\t400\t.\t-\t.\tID=t3;Parent=E2;biotype=lincRNA
"""
BED_GENES = "chr1\t100\t200\tABC|E1.2|protein_coding\t0\t+\nchr1\t300\t400\tE2|E2|lincRNA\t0\t-\n"


@pytest.mark.parametrize(
    "text", [GTF_GENES, GTF_TRANSCRIPTS, GTF_TRANSCRIPTS.replace("\ttranscript\t", "\texon\t"), GFF3, GFF3_MRNA, BED_GENES]
)
@pytest.mark.parametrize("how", ["plain", "gzip", "crlf"])
def test_genes_of_all_formats(tmp_path, text, how):
    path = tmp_path / "genes"
    raw = text.replace("\n", "\r\n").encode() if how == "crlf" else text.encode()
    path.write_bytes(gzip.compress(raw) if how == "gzip" else raw)
    genes = read_genes(path)
    assert genes[["chrom", "start", "end", "name", "strand", "biotype", "gene_id"]].to_numpy().tolist() == [
        ["chr1", 100, 200, "ABC", "+", "protein_coding", "E1.2"],
        ["chr1", 300, 400, "E2", "-", "lincRNA", "E2"],
    ]
    assert genes["start"].dtype == np.int64


def test_plain_bed_name_is_name_and_id(tmp_path):
    path = tmp_path / "genes"
    path.write_text("chr1\t100\t200\tABC\t0\t+\n")
    assert read_genes(path).to_numpy().tolist() == [["chr1", 100, 200, "ABC", "+", "", "ABC"]]


def test_gff3_percent_encoding(tmp_path):
    path = tmp_path / "genes"
    path.write_text("c\tE\tgene\t1\t2\t.\t+\t.\tID=g1;Name=a%3Bb%2Cc\n")
    assert read_genes(path)["name"].tolist() == ["a;b,c"]


def test_union_keeps_contigs_and_strands_apart(tmp_path):
    path = tmp_path / "genes"
    rows = [("chrX", 1, 50, "+"), ("chrY", 11, 60, "+"), ("chrX", 41, 90, "+"), ("chrX", 1, 9, "-")]
    path.write_text("".join(f'{c}\tH\ttranscript\t{s}\t{e}\t.\t{d}\t.\tgene_id "P";\n' for c, s, e, d in rows))
    assert read_genes(path)[["chrom", "start", "end", "strand"]].to_numpy().tolist() == [
        ["chrX", 0, 90, "+"],
        ["chrY", 10, 60, "+"],
        ["chrX", 0, 9, "-"],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no genes"),
        ("chr1\t1\t2\tg\n", "lacks column strand"),
        ("chr1\t1\t2\tg\t0\t.\n", "gene 'g' at chr1:1 has no strand"),
        ("chr1\tH\tCDS\t1\t2\t.\t+\t0\tgene_id 1\n", "no gene, transcript or exon rows"),
        ("chr1\tH\tgene\t5\t2\t.\t+\t0\tgene_id 1\n", "line 1: start 5"),
        ("chr1\tH\tgene\t1\t2\t.\t+\t0\tID=1\nchr1\tH\tgene\t0\t2\t.\t+\t0\tID=2\n", "line 2: start 0"),
        ("chr1\tH\tgene\t1\t2\t.\t+\t0\tID=1\nchr1\tgene\n", "line 2 is no GTF"),
        ("chr1\tH\tgene\t1\t2\t.\t?\t0\tID=1\n", "strand '\\?'"),
    ],
)
def test_bad_genes_are_refused(tmp_path, text, message):
    path = tmp_path / "genes"
    path.write_text(text)
    with pytest.raises(BasewiseError, match=message):
        read_genes(path)


@pytest.mark.data
def test_real_labels(shared):
    sites = read_sites(shared / "data/labels/polya_db3_sites.bed.gz")
    assert len(sites) == 5837
    assert (sites["end"] - sites["start"] == 1).all()
    genes = read_genes(shared / "data/labels/gencode_v19_genes.bed.gz")
    assert len(genes) == 1918
    assert (genes["biotype"] != "").all()
    clusters = read_sites(shared / "data/labels/polyasite2_predominant_clusters.bed.gz")
    assert len(clusters) == 549

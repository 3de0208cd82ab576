"""What can be asked of `build_polya`, checked as a whole before anything is read."""

from dataclasses import dataclass, replace

from basewise.errors import BasewiseError, did_you_mean
from basewise.tasks.pas_rule import WINDOW

NEGATIVES = ("gene", "intergene", "scan")
VARIANTS = ("published", "clean", "matched")  # of gene and intergene; scan negatives have no variants
LEVELS = ("sequence", "base")
SPLITS = ("chromosome", "random")
REGION = 4096


@dataclass(frozen=True)
class PolyaOptions:
    """The choices behind a poly(A) dataset; defaults that depend on others are filled in, all mistakes are reported at once."""

    negatives: str
    """gene, intergene: windows with AATAAA or ATTAAA 10-35 upstream of an A; scan: candidates of the 18-hexamer rule."""
    variant: str | None = None
    """published, clean (default) or matched; always "scan" for scan negatives."""
    level: str = "sequence"
    """sequence: one window an example; base: regions with one label a base (scan negatives only)."""
    window: int | None = None
    """Bases an example; default 101, regions 4096. The cleavage base stands at index window // 2 of a window."""
    seed: int = 0
    split: str = "chromosome"
    test_chroms: tuple[str, ...] = ()
    """With none given, test and validation chromosomes are chosen so that annotated sites come near 60/20/20."""
    val_chroms: tuple[str, ...] = ()
    exclusion: int = 100
    """A negative is further than this many bases from every annotated site of its strand."""
    positive_distance: int = 24
    """scan: a candidate at most this far from a site of its strand is positive."""
    negatives_per_positive: int | None = 20
    """scan: negatives drawn for each positive of a chromosome; None: all."""
    background: int = 1
    """base: regions drawn without a site for each region with one."""
    flank: int | None = None
    """base: bases at either end of a region that give context and are not scored; default an eighth of the region."""
    complete_eval: bool | None = None
    """split by chromosome: keep every candidate of test and validation chromosomes, whatever is drawn for training; default for base."""
    force_center: bool | None = None
    """Write A over the cleavage base of positives; default only in `published`."""

    @property
    def size(self) -> int:
        """Bases an example."""
        return self.window or (WINDOW if self.level == "sequence" else REGION)

    @property
    def margin(self) -> int:
        """Unscored bases at either end of a region."""
        return self.size // 8 if self.flank is None else self.flank

    def complete(self) -> "PolyaOptions":
        """Return the options with every default filled in; raise BasewiseError listing all that is wrong."""
        problems = [*self._bad_words(), *self._bad_numbers(), *self._bad_combinations()]
        if problems:
            raise BasewiseError("; ".join(problems))
        scan = self.negatives == "scan"
        return replace(
            self,
            variant="scan" if scan else self.variant or "clean",
            window=self.size,
            flank=self.margin if self.level == "base" else 0,
            complete_eval=self.split == "chromosome" and (self.level == "base" if self.complete_eval is None else self.complete_eval),
            force_center=not scan and self.variant == "published" if self.force_center is None else self.force_center,
        )

    def _unread(self) -> tuple[str, ...]:
        """Return the choices that have no meaning beside the others."""
        of_regions, of_candidates = ("background", "flank"), ("negatives_per_positive",)
        if self.level == "base":
            return of_candidates
        return of_regions if self.negatives == "scan" else (*of_regions, *of_candidates, "positive_distance", "complete_eval")

    def _bad_words(self) -> list[str]:
        words = {"negatives": NEGATIVES, "level": LEVELS, "split": SPLITS}
        bad = [
            f"{name} is {getattr(self, name)!r}, expected {', '.join(choices)}.{did_you_mean(getattr(self, name), choices)}"
            for name, choices in words.items()
            if getattr(self, name) not in choices
        ]
        if self.variant is not None and self.variant not in (*VARIANTS, "scan"):
            bad.append(f"variant is {self.variant!r}, expected {', '.join(VARIANTS)}.{did_you_mean(self.variant, VARIANTS)}")
        return bad

    def _bad_numbers(self) -> list[str]:
        least = {"window": 1, "seed": 0, "exclusion": 0, "positive_distance": 0, "negatives_per_positive": 1, "background": 0, "flank": 0}
        values = {name: getattr(self, name) for name in least}
        return [
            f"{name} is {value}, expected at least {least[name]}"
            for name, value in values.items()
            if value is not None and value < least[name]
        ]

    def _bad_combinations(self) -> list[str]:
        scan, bad = self.negatives == "scan", []
        if scan and self.variant in VARIANTS:
            bad.append(f"variant {self.variant!r} is for gene and intergene negatives; scan negatives have no variants, leave it out")
        if self.negatives in ("gene", "intergene") and self.variant == "scan":
            bad.append("variant 'scan' needs scan negatives")
        if self.level == "base" and not scan:
            bad.append(f"level 'base' needs scan negatives, got {self.negatives!r}")
        if scan and self.exclusion < self.positive_distance:
            bad.append(f"exclusion {self.exclusion} is less than positive_distance {self.positive_distance}: a candidate would be both")
        if scan and self.force_center:
            bad.append("force_center has no meaning for scan: every candidate is an A")
        if self.level == "base" and self.margin * 2 >= self.size:
            bad.append(f"flanks of {self.margin} leave nothing to score in a region of {self.size} bases")
        bad += [
            f"{name} is {getattr(self, name)!r}, which nothing reads with {self.negatives} negatives at level {self.level!r}: leave it out"
            for name in self._unread()
            if getattr(self, name) != getattr(type(self), name)
        ]
        if self.split == "random" and (self.test_chroms or self.val_chroms):
            bad.append("test and validation chromosomes need the split by chromosome, not a random one")
        if self.split == "random" and self.complete_eval:
            bad.append("a complete evaluation needs the split by chromosome: a random split scatters the candidates")
        return bad

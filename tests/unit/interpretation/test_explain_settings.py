"""Settings of `explain` that its method would not read."""

import pytest

from basewise.errors import BasewiseError
from basewise.interpretation.attribute import Settings
from basewise.interpretation.explain import READ, check_settings


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("ig", {"around": 20}, r"method ig does not read around: .* \(ism\)"),
        ("ig", {"signed": True, "samples": 3}, r"does not read samples, signed"),
        ("ism", {"baseline": "shuffled"}, r"method ism does not read baseline: .* \(ig, ig-smoothgrad\)"),
        ("inputxgrad", {"steps": 50}, "does not read steps"),
        ("smoothgrad", {"tolerance": 0.1}, "does not read tolerance"),
        ("ig-smoothgrad", {"signed": True}, r"does not read signed: .* \(smoothgrad\)"),
    ],
)
def test_settings_that_the_method_does_not_read_are_refused(method, settings, said):
    with pytest.raises(BasewiseError, match=said):
        check_settings(method, Settings(**settings))


def test_settings_that_it_reads_are_not():
    other = {"baseline": "n", "steps": 9, "tolerance": 0.1, "samples": 3, "sd": 0.2, "signed": True, "around": 4}
    for method, names in READ.items():
        check_settings(method, Settings(**{name: other[name] for name in names}, seed=5, batch_size=2))

"""How good, honestly: metrics, bootstrap intervals, calibration, baselines."""

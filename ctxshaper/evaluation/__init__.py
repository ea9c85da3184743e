"""Measuring: data sets, metrics, calibration, profiles of generators."""

"""Hyojun (標準): Japanese chart notes to FHIR and SS-MIX2."""

__version__ = "0.1.0"

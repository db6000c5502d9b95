"""Figures of single results, in one style. Arrays come in, matplotlib figures go out."""

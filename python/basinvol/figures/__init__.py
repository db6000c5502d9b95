"""Figures of single results, in one style, from arrays to matplotlib figures."""

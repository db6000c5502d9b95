"""Questions that random directions do not answer, and attempts to break a number before it is trusted."""

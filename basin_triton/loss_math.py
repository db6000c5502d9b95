"""The losses of single outputs and rows, applied inside other kernels.

Reference: cross_entropy, binary_cross_entropy_with_logits, mse_loss, l1_loss and huber_loss of torch.nn.functional.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def log1p(x):
    """Return log(1 + x)."""
    # The device library's log1p is not available everywhere. This one (Kahan) is exact to rounding, although 1 + x is
    # rounded.
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit
def element_losses(logit, target, LOSS: tl.constexpr):
    """Return the losses of single outputs, for a loss that is a sum over outputs: "mse" or "bce_with_logits"."""
    if LOSS == "mse":
        loss = (logit - target) * (logit - target)
    else:
        loss = tl.where(logit < 0.0, 0.0, logit) - logit * target + log1p(tl.exp(-tl.abs(logit)))
    return loss


@triton.jit
def finite(largest):
    """Return the largest logit, or 0 where every logit is minus infinity.

    Minus infinity less itself would be NaN.
    """
    return tl.where(largest == float("-inf"), 0.0, largest)


@triton.jit
def cross_entropy(largest, at_label, others):
    """Return the loss from the largest logit, that of the label, and the sum of exp(logit - largest) of all others.

    Where the label has the largest logit, the loss is log(1 + others), which keeps its digits however small it is.
    """
    own = tl.exp(at_label - finite(largest))
    log_sum = tl.where(at_label == largest, log1p(others), tl.log(others + own))
    return log_sum + (largest - at_label)  # NaN where both are infinite, as torch's

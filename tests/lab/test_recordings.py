"""Losses of records: counted, and told."""

import numpy as np

from jaxsde.lab.recordings import Block, Losses


def test_losses_are_counted_and_told():
    missing, clipped = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    missing[0, :2] = clipped[1, 3] = missing[3, 0] = True
    block = Block(
        samples=np.zeros((4, 5, 1)),
        missing=missing,
        clipped=clipped,
        rejected=np.array([False, False, False, True]),
    )
    losses = Losses(skipped=(("a.h5", "a.h5: broken"),)).plus(block).plus(block)
    assert (losses.shots, losses.rejected, losses.missing, losses.with_missing) == (8, 2, 4, 2)
    assert (losses.clipped, losses.with_clipped, losses.samples) == (2, 2, 30)
    told = losses.lines(False)
    assert told[0] == "8 shots read, 6 analysed"
    assert [word in " ".join(told) for word in ("rejected", "missing", "clipped", "broken")] == [
        True
    ] * 4
    assert "raise the digitiser's range" in " ".join(told)
    assert "kept as they are" in " ".join(losses.lines(True))
    assert losses.counts()["skipped"] == ["a.h5: broken"]
    assert Losses(shots=3).lines(False) == ["3 shots read, 3 analysed"]

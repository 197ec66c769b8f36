"""Synthetic receipts: a claim, its chart, faults planted into them, and what is to be advised (`training.receipts.draw`)."""

"""Receipts (レセプト): the monthly claims of a hospital, and what has to be corrected or confirmed before they leave."""

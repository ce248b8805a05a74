"""How much units matter and what they cost: which of them go for a goal."""

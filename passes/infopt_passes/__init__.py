"""The passes that infopt brings. A new pass is a module, its test, and its line here."""

PASSES = {
    "prune": "infopt_passes.prune:Prune",
    "quantize": "infopt_passes.quantize:Quantize",
    "simplify": "infopt_passes.simplify:Simplify",
}

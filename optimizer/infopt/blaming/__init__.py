"""Blame: which layer of a quantized model makes the error of its outputs, why, and what would help.

Works on any graph with Q/DQ and the float model that it came from. The tensors of both are compared in one streaming
pass (:mod:`infopt.blaming.sweep`); layers are restored to float one by one (:mod:`infopt.blaming.restore`), reasons are
read off what each quantizer gets to see (:mod:`infopt.blaming.causes`), and remedies are tried
(:mod:`infopt.blaming.remedies`).
"""

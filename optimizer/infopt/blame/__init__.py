"""Blame: which layer of a quantized model makes the error of its outputs, why, and what would help.

Works on any graph with Q/DQ and the float model that it came from. The tensors of both are compared in one streaming
pass (:mod:`infopt.blame.sweep`); layers are restored to float one by one (:mod:`infopt.blame.restore`), reasons are read
off what each quantizer gets to see (:mod:`infopt.blame.causes`), and remedies are tried (:mod:`infopt.blame.remedies`).
"""

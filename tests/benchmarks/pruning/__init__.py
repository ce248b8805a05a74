"""Pruning: what it loses and gains, with and without INT8, and against Torch-Pruning.

``python -m tests.benchmarks.pruning`` from the checkout measures, prints the bars, and with ``--readme`` puts table and
picture into README. Raw numbers go to a JSON file as soon as they are there, and what is in it is not measured again.
``INFOPT_ZOO`` names the folder of models, ``INFOPT_TORCH_PRUNING_PYTHON`` an interpreter with torch, torch-pruning,
onnx, onnxscript and onnxruntime, ``INFOPT_FASHION_MNIST`` the folder with the data set's training pictures and labels;
rows that need what is missing say so.
"""

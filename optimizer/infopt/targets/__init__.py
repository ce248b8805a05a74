"""The targets that infopt brings; one module each, loaded only when used."""

TARGETS = {
    "onnxruntime": "infopt.targets.onnxruntime:onnxruntime",
    "openvino": "infopt.targets.openvino:openvino",
    "tensorrt": "infopt.targets.trt:tensorrt",
    "tensorrt-rtx": "infopt.targets.trt:tensorrt_rtx",
}

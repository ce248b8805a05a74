def test_a(cli, work):
    r = cli.quantize()
    print(r.out); print("ERR", r.err); print(r.code)
    from pathlib import Path
    print(sorted(work.rglob("*")))
    r = cli.quantize("--json", "--target", "openvino", "-o", "o")
    print(r.out); print("ERR", r.err); print(r.code)
    assert 0

from fusionproxy_jax.evaluation.machine import describe_machine, measure_gemm_peak


def test_the_machine_is_named_with_versions_and_load():
    machine = describe_machine()
    assert machine["processor"]
    assert machine["versions"]["numpy"].count(".") == 2
    assert machine["load_average"] >= 0


def test_the_peak_says_who_multiplied():
    peak = measure_gemm_peak(threads=1, size=64, num_rounds=2)
    assert peak["gflop_per_second"] > 0
    assert peak["runner"] == "ONNX Runtime, 1 threads"

from rbs_jax.chips import CHIPS, peak_flops


def test_peaks_of_devices_are_summed():
    assert peak_flops(["TPU v5 lite"] * 16) == 16 * 197e12
    assert peak_flops(["NVIDIA H200"]) == 989.5e12


def test_one_unknown_device_makes_the_peak_unknown():
    assert peak_flops(["cpu"]) is None
    assert peak_flops(["NVIDIA H200", "NVIDIA H200 MIG 1g.18gb"]) is None


def test_figures_are_of_dense_products_and_whole_units():
    """A slip of a factor of ten shows in the operations for each byte read."""
    for name, chip in CHIPS.items():
        assert 150 < chip.flops / chip.bandwidth < 600, name
        assert 15e9 < chip.memory < 200e9, name

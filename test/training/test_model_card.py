from crisp_ros.training.model_card import model_card

HEADER = {
    "version": "1.2.0",
    "command": "crisp train --models parts",
    "machine": {"cpu": "A CPU", "cores": 2, "device": "cpu", "torch": "2.13.0"},
    "recipe": {
        "network": "compact",
        "shards": 2,
        "photographs": (),
        "keep_library": True,
        "scatter": {"distance_m": (0.5, 1.0)},
    },
    "data": {
        "objects": ["bolt", "nut"],
        "crops": 4096,
        "meshes": [
            {
                "name": name,
                "file": f"{name}.ply",
                "origin_in_object_frame_m": [0.0, 0.0, 0.01],
                "symmetries": symmetries,
                "notes": notes,
            }
            for name, symmetries, notes in (("bolt", 36, ["1 small hole closed"]), ("nut", 1, []))
        ],
    },
    "figures": {
        "held_out_pnc_mm": 5.0,
        "held_out_shape": 0.97,
        "held_out_pnc_mm_of": {"bolt": 2.0, "nut": 8.0},
    },
    "seconds": {
        "crops": {"wall": 60.0, "processor": 100.0},
        "network": {"wall": 540.0, "processor": 1000.0},
    },
}


def test_a_card_has_data_recipe_time_machine_figures_and_limits():
    card = model_card(HEADER, "parts.safetensors")
    for entry in (
        "# parts.safetensors",
        "version 1.2.0",
        "| bolt | bolt.ply | 0.0000, 0.0000, 0.0100 | 36 | 2.0 |",
        "bolt.ply: 1 small hole closed",
        "mean error of a network coordinate, mm: 5",
        "in all: 10 min, 18 min of processors",
        "A CPU, 2 cores, device cpu, PyTorch 2.13.0",
        "Trained on renders alone",
        "Seen from 0.5 to 1.0 m away",
        "bolt: symmetric",
        "Least certain of nut",
        "network: compact",
        "`crisp train --models parts`",
    ):
        assert entry in card, entry


def test_a_card_says_whether_the_model_recognises_its_objects():
    card = model_card(HEADER, "parts.safetensors")
    assert "Only the objects listed above" in card
    header = {**HEADER, "recipe": {**HEADER["recipe"], "keep_library": False}}
    card = model_card(header, "kinds.safetensors")
    assert "it recognises none of them" in card and "Only the objects" not in card


def test_a_card_of_photographs_does_not_warn_of_renders():
    header = {**HEADER, "recipe": {**HEADER["recipe"], "shards": 0, "photographs": ["train_real"]}}
    card = model_card(header, "real.safetensors")
    assert "renders alone" not in card and "m away in training" not in card


def test_a_card_names_the_models_that_weights_came_from():
    for name, entry in (
        ("backbone", "backbone of the model of version 0.9"),
        ("initial", "started from the model of version 0.9"),
    ):
        assert entry not in model_card(HEADER, "parts.safetensors")
        assert entry in model_card({**HEADER, name: {"version": "0.9"}}, "parts.safetensors")

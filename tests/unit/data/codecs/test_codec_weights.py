"""Weights from files: original and Hugging Face names, and every way in which they can be wrong."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.encodec.configuration_encodec import EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecModel

from mmhydra.data.codecs import CodecError, build_codec, codec_from_info, info_of
from mmhydra.data.codecs.residual import fill_codebooks
from mmhydra.data.codecs.untrained import random_sound, seeded

DEMOS = {"image": "image_demo", "audio": "audio_demo", "video": "video_demo"}


def original_name(name: str) -> str:
    """What facebookresearch/encodec calls a tensor of transformers' EncodecModel."""
    name = name.replace("parametrizations.weight.original0", "weight_g")
    name = name.replace("parametrizations.weight.original1", "weight_v")
    if name.startswith("quantizer."):
        return name.replace("quantizer.", "quantizer.vq.").replace(".codebook.", "._codebook.")
    name = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", name)
    if ".lstm." in name:
        return name
    # The decoder's even places from 3 on that are no residual blocks are transposed convolutions.
    transposed = re.match(r"^decoder\.model\.(3|6|9|12)\.conv\.", name)
    return name.replace(".conv.", ".convtr.convtr." if transposed else ".conv.conv.")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[EncodecModel, Path]:
    """A full EnCodec of 24 kbps, 32 codebooks, with weights in both forms."""
    folder = tmp_path_factory.mktemp("encodec")
    with seeded(3), torch.no_grad():
        model = EncodecModel(EncodecConfig()).eval()
        fill_codebooks(model.quantizer, model.encoder(random_sound(24000, 24000)))
    model.save_pretrained(folder / "hf")
    torch.save({original_name(name): tensor for name, tensor in model.state_dict().items()}, folder / "24khz.th")
    return model, folder


@pytest.mark.parametrize("form", ["hf", "24khz.th"])
def test_encodec_from_original_and_hugging_face_files(form, original, make_section, make_sound) -> None:
    model, folder = original
    codec = build_codec(make_section("encodec_24khz", weights=str(folder / form)))
    sound = make_sound(1, seconds=0.8, rate_hz=24000)
    with torch.no_grad():
        values = torch.from_numpy(sound.samples)[None]
        codes = model.encode(values, bandwidth=6.0).audio_codes
        heard = model.decode(codes, [None]).audio_values[0].numpy()
    ids = codec.encode(sound)
    assert codes.shape == (1, 1, 8, 60)
    np.testing.assert_array_equal(ids.reshape(-1, 8) - 1024 * np.arange(8), codes[0, 0].T.numpy())
    np.testing.assert_array_equal(codec.decode(ids).samples, heard)
    assert codec.trained
    assert codec.note == f"weights from {form}"
    assert (np.array([len(set(book)) for book in ids.reshape(-1, 8).T.tolist()]) > 1).all()  # not equal by chance


def test_both_forms_of_the_same_weights_are_the_same_codec(original, make_section) -> None:
    _, folder = original
    codecs = [build_codec(make_section("encodec_24khz", weights=str(folder / form))) for form in ("hf", "24khz.th")]
    assert codecs[0].digest == codecs[1].digest
    old_names = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in load_file(folder / "hf" / "model.safetensors").items()
    }
    torch.save(old_names, folder / "old.bin")  # how older Hugging Face files name them
    assert build_codec(make_section("encodec_24khz", weights=str(folder / "old.bin"))).digest == codecs[0].digest


@pytest.fixture(params=["image", "audio", "video", "video x 3"])
def saved(request, tmp_path, make_section) -> tuple[Any, Path, dict[str, Any]]:
    """An untrained codec, its weights as a Hugging Face folder, and what differs from the demo's settings."""
    modality, _, several = request.param.partition(" x ")
    changes = {"num_codebooks": int(several)} if several else {}
    codec = build_codec(make_section(DEMOS[modality], seed=9, **changes))
    codec.model.save_pretrained(tmp_path / "saved")
    return codec, tmp_path / "saved", changes


def test_every_network_loads_what_transformers_saves(saved, make_section, signal, tmp_path) -> None:
    codec, folder, changes = saved
    name = DEMOS[codec.modality]
    loaded = build_codec(make_section(name, weights=str(folder), **changes))
    np.testing.assert_array_equal(loaded.encode(signal(codec.modality, 1)), codec.encode(signal(codec.modality, 1)))
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((folder / "model.safetensors").read_bytes())
    other_place = build_codec(make_section(name, weights=str(alone), seed=5, **changes))
    assert other_place.digest == loaded.digest  # neither place nor seed is in it
    tensors = load_file(alone)
    last = sorted(key for key in tensors if key.startswith("quantize"))[-1]
    flat = tensors[last].reshape(-1)
    flat[-1] += 1e-6
    save_file(tensors, alone)
    assert build_codec(make_section(name, weights=str(alone), **changes)).digest != loaded.digest
    with pytest.raises(CodecError, match=r"the weights .*alone.safetensors are others, or have changed since"):
        codec_from_info(info_of(other_place), tmp_path)


def test_a_manifest_names_weights_without_their_folder(saved, make_section, tmp_path) -> None:
    codec, folder, changes = saved
    info = info_of(build_codec(make_section(DEMOS[codec.modality], weights=str(folder), **changes)))
    assert str(tmp_path) not in info.model_dump_json()
    assert codec_from_info(info, tmp_path).digest == info.digest
    with pytest.raises(CodecError, match=r"weights named saved, which are not there: type --weights FOLDER"):
        codec_from_info(info)


@pytest.mark.parametrize("form", ["state_dict", "flat"])
def test_torch_files_with_and_without_a_level_above(form, tmp_path, make_section, demo_codec) -> None:
    tensors = demo_codec("image").model.state_dict()
    torch.save({"state_dict": tensors} if form == "state_dict" else tensors, tmp_path / "vq.pt")
    assert build_codec(make_section("image_demo", weights=str(tmp_path / "vq.pt"))).trained


def broken(folder: Path, fault: str) -> tuple[Path, str]:
    """Breaks the demo's image weights in `folder`; the path to give and what must be told."""
    file, config = folder / "model.safetensors", folder / "config.json"
    tensors = load_file(file)
    if fault == "no path":
        return folder / "nowhere", r"nowhere: no such file or folder. Type the path of a folder with config.json"
    if fault == "missing":
        del tensors["quant_conv.bias"]
        save_file(tensors, file)
        return folder, r"1 missing: quant_conv.bias"
    if fault == "unexpected":
        save_file(tensors | {f"other.{n}": torch.zeros(1) for n in range(6)}, file)
        return folder, r"6 unexpected: other.0, other.1, other.2, other.3 and 2 more"
    if fault == "shape":
        save_file(tensors | {"quantize.embedding.weight": torch.zeros(16, 8)}, file)
        return folder, r"1 of another shape: quantize.embedding.weight \[16, 8\] instead of \[512, 8\]"
    if fault == "nan":
        save_file(tensors | {"quant_conv.bias": torch.full((8,), torch.nan)}, file)
        return folder, r"1 with values that are no numbers: quant_conv.bias"
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
        return file, r"model.safetensors: can't be read .*Is the download whole"
    if fault == "empty":
        file.write_bytes(b"")
        return file, r"can't be read"
    if fault == "code":
        (folder / "evil.th").write_bytes(pickle.dumps({"a": Path("x")}))
        return folder / "evil.th", r"evil.th: can't be read"
    if fault == "no tensors":
        torch.save([1, 2], folder / "list.pt")
        return folder / "list.pt", r"expected are named tensors"
    if fault == "no config":
        config.unlink()
        return folder, r"config.json: can't be read"
    if fault == "other network":
        config.write_text(json.dumps({"model_type": "encodec"}))
        return folder, r"model_type is 'encodec', the codec's network has 'janus_vqgan'"
    if fault == "other config":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_channels": 64}))
        return folder, r"base_channels is 64 there and 32 in the codec's settings"
    assert fault == "no weights"
    file.unlink()
    return folder, r"neither model.safetensors nor pytorch_model.bin is in the folder"


FAULTS = ["no path", "missing", "unexpected", "shape", "nan", "truncated", "empty", "code", "no tensors", "no config"]


@pytest.mark.parametrize("fault", [*FAULTS, "other network", "other config", "no weights"])
def test_wrong_weights_are_refused_with_path_and_cure(fault, tmp_path, make_section, demo_codec) -> None:
    folder = tmp_path / "weights"
    demo_codec("image").model.save_pretrained(folder)
    path, told = broken(folder, fault)
    with pytest.raises(CodecError, match=told) as caught:
        build_codec(make_section("image_demo", weights=str(path)))
    assert str(folder) in str(caught.value)


def test_weights_of_another_size_say_which_setting(original, make_section) -> None:
    _, folder = original
    with pytest.raises(CodecError, match=r"of another shape: .*set the codec's fields"):
        build_codec(make_section("audio_demo", weights=str(folder / "24khz.th"), num_lstm_layers=2))

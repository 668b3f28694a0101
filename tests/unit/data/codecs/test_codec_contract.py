"""What every codec promises, whatever its modality."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmhydra.data.codecs import CodecError, build_codec, codec_from_info, info_of

MODALITIES = ["image", "audio", "video"]
NUM_SIGNALS = 12


@pytest.mark.parametrize("modality", MODALITIES)
class TestEveryCodec:
    def test_ids_are_whole_units_in_the_ranges_of_their_codebooks(self, modality, demo_codec, signal) -> None:
        codec = demo_codec(modality)
        ids = codec.encode(signal(modality, 1))
        assert ids.dtype == np.int64
        assert ids.ndim == 1
        assert len(ids) > 0
        assert len(ids) % codec.unit == 0
        books = ids.reshape(-1, codec.num_codebooks) // codec.codebook_size
        assert (books == np.arange(codec.num_codebooks)).all()

    def test_untrained_ids_tell_inputs_apart_and_use_the_codebook(self, modality, demo_codec, signal) -> None:
        codec = demo_codec(modality)
        found = [codec.encode(signal(modality, number)) for number in range(NUM_SIGNALS)]
        assert len({ids.tobytes() for ids in found}) == NUM_SIGNALS
        codes = np.concatenate(found).reshape(-1, codec.num_codebooks)
        for book in codes.T:
            counts = np.unique(book, return_counts=True)[1]
            assert len(counts) >= 60
            assert counts.max() / counts.sum() < 0.2  # no code takes all

    def test_neither_order_nor_company_changes_ids(self, modality, demo_codec, signal) -> None:
        codec = demo_codec(modality)
        alone = [codec.encode(signal(modality, number)) for number in range(3)]
        backwards = [codec.encode(signal(modality, number)) for number in (2, 1, 0)][::-1]
        for first, second in zip(alone, backwards, strict=True):
            np.testing.assert_array_equal(first, second)

    def test_encoding_leaves_the_signal_as_it_is(self, modality, demo_codec, signal) -> None:
        given, untouched = signal(modality, 3), signal(modality, 3)
        demo_codec(modality).encode(given)
        for name in ("samples", "frames"):
            if hasattr(given, name):
                given, untouched = getattr(given, name), getattr(untouched, name)
        np.testing.assert_array_equal(given, untouched)

    def test_decoding_does_not_depend_on_the_process_state(self, modality, demo_codec, signal) -> None:
        codec = demo_codec(modality)
        ids = codec.encode(signal(modality, 4))
        first = codec.decode(ids)
        torch.rand(7)
        second = codec.decode(ids)
        for name in ("samples", "frames"):
            if hasattr(first, name):
                first, second = getattr(first, name), getattr(second, name)
        np.testing.assert_array_equal(first, second)

    def test_says_that_it_is_untrained(self, modality, demo_codec) -> None:
        codec = demo_codec(modality)
        assert not codec.trained
        assert codec.note == "untrained: plumbing only"

    def test_is_built_again_from_what_a_manifest_keeps(self, modality, demo_codec, signal) -> None:
        codec = demo_codec(modality)
        info = type(info_of(codec)).model_validate_json(info_of(codec).model_dump_json())
        again = codec_from_info(info)
        assert again.digest == codec.digest
        np.testing.assert_array_equal(again.encode(signal(modality, 5)), codec.encode(signal(modality, 5)))

    def test_another_seed_is_another_codec(self, modality, demo_codec, signal, make_section) -> None:
        other = build_codec(make_section(f"{modality}_demo", seed=1))
        assert other.digest != demo_codec(modality).digest
        ours, theirs = (codec.encode(signal(modality, 6)) for codec in (demo_codec(modality), other))
        assert (ours != theirs).any()

    def test_a_manifest_of_another_codec_is_refused(self, modality, demo_codec) -> None:
        info = info_of(demo_codec(modality)).model_copy(update={"digest": "0" * 64})
        with pytest.raises(CodecError, match=r"has digest [0-9a-f]{12}, the dataset was made with 000000000000"):
            codec_from_info(info)

    @pytest.mark.parametrize("fault", ["shifted", "parted", "none"])
    def test_damaged_ids_are_refused(self, modality, fault, demo_codec, signal) -> None:
        codec = demo_codec(modality)
        ids = codec.encode(signal(modality, 7))
        if fault == "shifted":
            ids = ids + codec.num_codebooks * codec.codebook_size
        ids = {"shifted": ids, "parted": ids[:-1], "none": ids[:0]}[fault]
        with pytest.raises(CodecError, match=r"codebook|whole number of units"):
            codec.decode(ids)

    def test_building_leaves_random_numbers_and_threads_alone(self, modality, make_section) -> None:
        torch.manual_seed(5)
        np.random.seed(5)
        torch.set_num_threads(2)
        before = torch.get_rng_state(), str(np.random.get_state())
        build_codec(make_section(f"{modality}_demo"))
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == str(np.random.get_state())

    def test_threads_while_building_do_not_change_the_digest(self, modality, demo_codec, make_section) -> None:
        torch.set_num_threads(2)
        again = build_codec(make_section(f"{modality}_demo"))
        torch.set_num_threads(1)
        assert again.digest == demo_codec(modality).digest


def test_a_manifest_that_names_no_network_is_refused(demo_codec) -> None:
    info = info_of(demo_codec("image"))
    with pytest.raises(CodecError, match=r"network 'Other'.*JanusVQVAE"):
        codec_from_info(info.model_copy(update={"settings": {**info.settings, "network": "Other"}}))
    with pytest.raises(CodecError, match="extra_field"):
        codec_from_info(info.model_copy(update={"settings": {**info.settings, "extra_field": 1}}))


IN_ANOTHER_PROCESS = """
import hashlib, json, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import conftest
from mmhydra.data.codecs import build_codec
makers = {"image": conftest.picture, "audio": conftest.sound, "video": conftest.clip}
found = {}
for modality, make in makers.items():
    codec = build_codec(conftest.section(f"{modality}_demo"))
    torch.rand(1000)
    ids = b"".join(codec.encode(make(number)).tobytes() for number in range(3))
    found[modality] = [codec.digest, hashlib.sha256(ids).hexdigest()]
print(json.dumps(found))
"""


def test_another_process_gives_the_digests_and_ids_of_this_one(demo_codec, signal) -> None:
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(Path(__file__).parent)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE)
    here = {}
    for modality in MODALITIES:
        ids = b"".join(demo_codec(modality).encode(signal(modality, number)).tobytes() for number in range(3))
        here[modality] = [demo_codec(modality).digest, hashlib.sha256(ids).hexdigest()]
    output, _ = other.communicate(timeout=100)
    assert other.returncode == 0
    assert json.loads(output) == here


@pytest.mark.parametrize("changed", [{"resample": "lanczos"}, {"codebook_size": 256}])
def test_a_setting_is_in_the_digest(changed, demo_codec, make_section) -> None:
    assert build_codec(make_section("image_demo", **changed)).digest != demo_codec("image").digest

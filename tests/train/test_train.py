"""train: loss, checkpoints, initialization from exported weights, augmentation, splits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from scipy import ndimage

from rmbg.networks.builtin import load
from rmbg.networks.builtin_spec import WEIGHTS
from train import augment, data
from train.augment import lattice_holes, make_batch
from train.data import UNKNOWN, Pairs, empty_window, load_pairs, split
from train.loss import known_pixels, total_loss
from train.train import Config, Trainer, train
from train.weights import mean, save_half

SIDE = 64


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with discs on noise and their masks."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(1)
    for part in ("im", "gt"):
        (folder / part).mkdir()
    for number in range(8):
        picture = Image.fromarray(rng.integers(0, 90, (90, 120, 3), np.uint8))
        mask = Image.new("L", picture.size)
        left, top = (int(value) for value in rng.integers(5, 40, 2))
        box = (left, top, left + 45, top + 45)
        ImageDraw.Draw(picture).ellipse(box, fill=(220, 120, 60))
        ImageDraw.Draw(mask).ellipse(box, fill=255)
        picture.save(folder / "im" / f"disc{number}.jpg")
        mask.save(folder / "gt" / f"disc{number}.png")
    return folder


def make_config(source: Path, out: Path, **changes: object) -> Config:
    """Config of a small training."""
    phases = ((0.0, SIDE),)
    small = {"stored_side": 96, "phases": phases, "batch": 8, "log_every": 1, "held_out": ("disc", 0), "ema_decay": 0.5}
    return Config(source=(source,), cache=out / "cache", out=out, **(small | changes))


def test_loss_decreases_and_exported_weights_load(pairs: Path, tmp_path: Path) -> None:
    train(make_config(pairs, tmp_path, steps=12))
    losses = [float(line.split(",")[-1]) for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.85 * np.mean(losses[:3])
    with torch.inference_mode():
        logits, confidence = load(tmp_path / "builtin.safetensors")(torch.zeros(1, 3, SIDE, SIDE))
    assert logits.shape == (1, 1, SIDE, SIDE)
    assert 0 <= float(confidence) <= 1


def test_a_resumed_training_equals_an_uninterrupted_one(pairs: Path, tmp_path: Path) -> None:
    config = make_config(pairs, tmp_path, steps=4)
    squares = load_pairs(config.source, config.cache, config.stored_side)
    indices, _ = split(squares.names, *config.held_out)
    uninterrupted, stopped, resumed = Trainer(config), Trainer(config), Trainer(config)
    for _ in range(2):
        uninterrupted.step_on(squares, indices)
    uninterrupted.save()
    for _ in range(2):
        uninterrupted.step_on(squares, indices)
    (tmp_path / "checkpoint.pt").unlink()
    for _ in range(2):
        stopped.step_on(squares, indices)
    stopped.save()
    assert (tmp_path / "checkpoint.pt").stat().st_size < 60e6
    resumed.load()
    assert resumed.step == 2
    for _ in range(2):
        resumed.step_on(squares, indices)
    for name, tensor in uninterrupted.ema.state_dict().items():
        torch.testing.assert_close(resumed.ema.state_dict()[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def train_and_write_weights(rank: int, config: Config) -> None:
    """Entry point of a worker that writes the weights it ends with."""
    torch.set_num_threads(1)
    rendezvous = f"file://{config.out / 'rendezvous'}"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=config.workers)
    torch.save(train(config).net.state_dict(), config.out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_workers_have_the_same_weights_although_one_saves(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    config = make_config(pairs, tmp_path, steps=3, workers=2, save_every=0.0)
    load_pairs(config.source, config.cache, config.stored_side)
    torch.multiprocessing.spawn(train_and_write_weights, (config,), config.workers)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, tensor in first.items():
        if "running" not in name:  # the statistics of batch norms are of the own part of each batch
            assert torch.equal(second[name], tensor), name


def test_training_starts_from_exported_weights(pairs: Path, tmp_path: Path) -> None:
    config = make_config(pairs, tmp_path, steps=1)
    pictures = torch.from_numpy(load_pairs(config.source, config.cache, 96).squares[:, :, :, :3].copy())
    trainer, packaged = Trainer(config), load()
    trainer.init_from(WEIGHTS, pictures.permute(0, 3, 1, 2).float() / 255)
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        logits, confidence = packaged(x)
        outputs = trainer.ema(x)
    torch.testing.assert_close(outputs[0], logits, rtol=1e-3, atol=5e-3)
    torch.testing.assert_close(outputs[1], confidence, rtol=1e-3, atol=1e-3)


def test_folded_batch_norms_are_trained(pairs: Path, tmp_path: Path) -> None:
    before, after = load(), train(make_config(pairs, tmp_path, steps=3, weights=WEIGHTS, fused=True, rate=1e-3)).ema
    exported = load(tmp_path / "builtin.safetensors").state_dict()
    for name, tensor in after.state_dict().items():
        torch.testing.assert_close(exported[name], tensor, rtol=2e-3, atol=1e-4)
    changes = [(exported[name] - tensor).abs().max() for name, tensor in before.state_dict().items()]
    assert 0 < max(changes) < 0.05


def test_mean_of_weights(tmp_path: Path) -> None:
    numbers = torch.tensor([1.0, 3.0]), torch.tensor([2.0, -1.0])
    for name, tensor in zip("ab", numbers, strict=True):
        save_half({"weight": tensor}, tmp_path / f"{name}.safetensors")
    mean(tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    found = load_file(tmp_path / "c.safetensors")
    assert found["weight"].tolist() == [1.5, 1.0]
    assert found["weight"].dtype == torch.float16


def test_later_pairs_replace_those_of_equal_name(pairs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for part, mode in (("im", "RGB"), ("gt", "L")):
        (other / part).mkdir(parents=True)
        for name in ("disc3", "new"):
            Image.new(mode, (50, 50)).save(other / part / f"{name}.png")
    first, both = load_pairs((pairs,), tmp_path, 96), load_pairs((pairs, other), tmp_path, 96)
    assert (len(first), len(both)) == (8, 9)
    assert both.names.count("disc3") == 1
    assert both.squares[both.names.index("disc3")].max() == 0
    assert load_pairs((pairs,), tmp_path, 96).names == first.names


def test_an_interrupted_cache_is_not_used(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_pairs((pairs,), tmp_path, 96)
    squares = first.squares.copy()
    calls = iter(range(3))

    def interrupted(*arguments: object) -> np.ndarray:
        next(calls)  # StopIteration at the fourth one
        return np.zeros((96, 96, 4), np.uint8)

    (tmp_path / "copy").mkdir()
    for part in ("im", "gt"):
        (tmp_path / "copy" / part).symlink_to(pairs / part)
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(data, "to_square", interrupted)
        load_pairs((tmp_path / "copy",), tmp_path, 96)
    assert np.array_equal(load_pairs((pairs,), tmp_path, 96).squares, squares)


def test_prefixes_are_drawn_twice(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(
        Trainer, "step_on", lambda trainer, pairs, indices: drawn.extend(indices) or setattr(trainer, "step", 1) or 0.0
    )
    train(make_config(pairs, tmp_path, steps=1, twice=("disc3", "disc5")))
    assert sorted(drawn) == [0, 1, 2, 3, 3, 4, 5, 5, 6, 7]


def square_with_a_hole(side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask of a square that covers its hole, and logits that leave the hole open: (1, 1, side, side)."""
    mask = torch.zeros(1, 1, side, side)
    mask[..., 8:56, 8:56] = 1
    logits = 12 * (mask - 0.5)
    logits[..., 20:44, 20:44] = -6
    return mask, logits


def test_gray_is_unknown_in_trimaps_and_coverage_elsewhere() -> None:
    mask, _ = square_with_a_hole()
    mask[..., 20:44, 20:44] = UNKNOWN / 255
    known = known_pixels(mask.expand(2, 1, 64, 64), torch.tensor([True, False]))
    assert torch.equal(known[1], torch.ones(1, 64, 64))
    assert torch.equal(known[0] == 0, mask[0] == UNKNOWN / 255)


def test_unknown_pixels_have_no_influence() -> None:
    mask, logits = square_with_a_hole()
    mask[..., 20:44, 20:44] = UNKNOWN / 255
    found = {}
    for trimap in (False, True):
        opened, confidence = logits.clone().requires_grad_(), torch.tensor([4.0], requires_grad=True)
        sides = [torch.nn.functional.avg_pool2d(logits, step).requires_grad_() for step in (4, 8, 16, 32)]
        total, _ = total_loss(opened, sides, confidence, mask, torch.tensor([trimap]))
        total.backward()
        hole = [output.grad[..., output.shape[-1] // 2, output.shape[-1] // 2].abs().item() for output in (opened, *sides[:2])]
        found[trimap] = hole, float(confidence.grad)
    assert min(found[False][0]) > 0
    assert max(found[True][0]) < 1e-6
    assert found[False][1] > 0  # the IoU is 0.75, as the gray pixels count as subject
    assert found[True][1] < 0  # the IoU of the known pixels is 1


def test_trimaps_are_found_by_name(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[bool]] = []
    monkeypatch.setattr("train.train.TRIMAPS", ("disc2",))
    monkeypatch.setattr(Trainer, "train_step", lambda trainer, pictures, masks, trimaps: seen.append(trimaps.tolist()) or 0.0)
    trainer = Trainer(make_config(pairs, tmp_path))
    squares = load_pairs((pairs,), tmp_path, 96)
    trainer.step_on(squares, np.arange(8))
    (found,) = seen
    assert sum(found) == 1
    assert squares.named(("disc2", "disc5"), np.array([5, 1, 2])).tolist() == [True, False, True]


def test_color_jitter_is_saturation_contrast_and_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "P_GRAYSCALE", 1.0)
    monkeypatch.setattr(augment, "P_JITTER", 0.0)
    monkeypatch.setattr(augment, "P_DARK", 0.0)
    pictures = torch.rand(3, 3, 8, 10, generator=torch.Generator().manual_seed(2))
    gray = augment.color_jitter(pictures, torch.Generator().manual_seed(1))
    torch.testing.assert_close(gray, pictures.mean(1, keepdim=True).expand_as(pictures))
    monkeypatch.setattr(augment, "P_GRAYSCALE", 0.0)
    torch.testing.assert_close(augment.color_jitter(pictures, torch.Generator().manual_seed(1)), pictures)
    monkeypatch.setattr(augment, "P_JITTER", 1.0)
    jittered = augment.color_jitter(pictures * 0.4 + 0.3, torch.Generator().manual_seed(1))
    for before, after in zip(pictures, jittered, strict=True):
        spread = after.flatten(1).std(1) / (0.4 * before.flatten(1).std(1))  # contrast, saturation and gain
        assert 0.2 < float(spread.min()) <= float(spread.max()) < 2.2
        assert not torch.allclose(after, before * 0.4 + 0.3, atol=0.01)


def test_gaussian_blur_is_that_of_scipy() -> None:
    pictures = torch.rand(2, 3, 20, 31, generator=torch.Generator().manual_seed(2))
    expected = ndimage.gaussian_filter(pictures.numpy(), (0, 0, 1.5, 1.5), mode="mirror", radius=3)
    np.testing.assert_allclose(augment.gaussian_blur(pictures, 1.5).numpy(), expected, atol=1e-5)


def test_batches_are_reproducible(pairs: Path, tmp_path: Path) -> None:
    squares = load_pairs((pairs,), tmp_path, 96)
    everything = np.arange(len(squares))
    first, second = (make_batch(squares, everything, everything, SIDE, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert first[0].shape == (8, 3, SIDE, SIDE)
    assert first[1].shape == (8, 1, SIDE, SIDE)
    assert 0 <= float(first[0].min()) <= float(first[0].max()) <= 1


def test_holes_show_the_new_background(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blue = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    for name, value in {"P_COMPOSITE": 0.0, "P_STUDIO": 1.0, "P_BACKGROUND_ONLY": 0.0, "P_HOLES": 1.0, "P_CROP": 0.0}.items():
        monkeypatch.setattr(augment, name, value)
    monkeypatch.setattr(augment, "studio_backgrounds", lambda rng, count, side: blue.expand(count, 3, side, side))
    monkeypatch.setattr(augment, "color_jitter", lambda pictures, rng: pictures)
    monkeypatch.setattr(augment, "degrade", lambda pictures, rng: pictures)
    squares = load_pairs((pairs,), tmp_path, 96)
    everything = np.arange(len(squares))
    pictures, masks = make_batch(squares, everything, everything, 96, torch.Generator().manual_seed(3))
    for picture, mask in zip(pictures, masks, strict=True):
        _, parts = ndimage.label(mask[0].numpy() < 0.5)
        assert parts > 1  # one of them around the disc
        assert float((picture - blue[0])[:, mask[0] < 0.02].abs().max()) < 0.1
        assert float(picture[2][mask[0] > 0.98].mean()) < 0.6


def test_subjects_that_are_not_moved_have_no_holes(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("P_COMPOSITE", "P_HOLES"):
        monkeypatch.setattr(augment, name, 1.0)
    for name in ("P_STUDIO", "P_CROP", "P_ZOOM_OUT", "P_ROTATE"):
        monkeypatch.setattr(augment, name, 0.0)
    squares = load_pairs((pairs,), tmp_path, 96)
    no_windows = np.array([], np.int64)
    _, masks = make_batch(squares, np.arange(len(squares)), no_windows, 96, torch.Generator().manual_seed(3))
    assert all(ndimage.label(mask[0].numpy() < 0.5)[1] == 1 for mask in masks)


def test_lattice_holes_leave_a_rim() -> None:
    mask = torch.zeros(6, 1, 64, 64)
    mask[:, :, 8:56, 8:56] = 1
    holes = lattice_holes(mask, torch.Generator().manual_seed(1))
    inner = torch.zeros(1, 1, 64, 64)
    inner[:, :, 9:55, 9:55] = 1
    assert float((holes - inner).max()) <= 0
    assert float(holes.min()) >= 0
    fraction = holes.sum((1, 2, 3)) / mask.sum((1, 2, 3))
    assert float(fraction.min()) > 0.1
    assert float(fraction.max()) < 0.85


def test_largest_empty_window() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :16] = 255
    left, top, side = empty_window(mask)
    assert (left, side) == (0.25, 0.75)
    assert 0 <= top <= 0.25
    assert empty_window(np.full((64, 64), 255, np.uint8))[2] == 0


def test_split_depends_on_names_only() -> None:
    names = [f"duts_{number}" for number in range(9)] + ["furn_1"]
    kept, held_out = split(names, "duts_", 4)
    assert len(held_out) == 4
    assert sorted([*kept, *held_out]) == list(range(10))
    again = split(names[::-1], "duts_", 4)[1]
    assert {names[index] for index in held_out} == {names[::-1][index] for index in again}


def test_pairs_count() -> None:
    assert len(Pairs(np.zeros((2, 16, 16, 4), np.uint8), np.zeros((2, 3), np.float32), ["a", "b"])) == 2

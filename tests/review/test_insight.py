"""What the network looks at: Grad-CAM against finite differences of a hand-made net, maps and neighbours."""

import numpy as np
import torch
from torch import nn

from eightfold.net import nets
from eightfold.review import insight


def test_grad_cam_lights_up_what_speaks_for_the_class():
    """A trunk that passes two channels on, and a head that reads class 0 off the first and class 1 off the second."""
    early, late = nn.AvgPool2d(8), nn.Identity()
    head = nn.Linear(6, 2, bias=False)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[0, 3], head.weight[1, 4] = 1.0, 1.0  # the averages of channels 0 and 1
    net = nets.Net(nets.Trunk(early, late, 3), head)
    inputs = torch.zeros(2, 3, 32, 32)
    inputs[:, 0, :8, :8], inputs[:, 1, 24:, 24:] = 1.0, 1.0
    first, second = insight.grad_cam(net, inputs, [0, 1])
    assert first.shape == (32, 32) and first.max() == second.max() == 1
    assert first[:8, :8].mean() > 0.7 and first[16:, 16:].max() == 0
    assert second[24:, 24:].mean() > 0.7 and second[:16, :16].max() == 0


def test_overlay_keeps_what_is_hot_and_dims_the_rest():
    picture = np.full((4, 4, 3), 200, np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[0, 0] = 1
    made = insight.overlay(picture, heat)
    assert made.dtype == np.uint8 and made[0, 0, 0] > made[0, 0, 2] > 100 and (made[1:] == 120).all()


def test_nearest_are_those_of_brute_force_and_never_itself():
    values = np.random.default_rng(0).normal(size=(30, 5))
    found = insight.nearest(values, 4)
    for i, row in enumerate(found):
        like = [v @ values[i] / np.linalg.norm(v) if j != i else -np.inf for j, v in enumerate(values)]
        assert row.tolist() == np.argsort(like)[::-1][:4].tolist()


def test_a_map_parts_two_groups_and_comes_out_the_same_twice():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, (20, 8)), rng.normal(12, 1, (20, 8))])
    maps = insight.flat_maps(values, 0)
    for places in maps.values():
        assert places.min() >= 0 and places.max() <= 1
        apart = np.linalg.norm(places[:20].mean(0) - places[20:].mean(0))
        assert apart > 2 * places[:20].std(0).mean()
    assert all((insight.flat_maps(values, 0)[name] == maps[name]).all() for name in maps)
    assert insight.flat_maps(values[:2], 0)["tsne"].shape == (2, 2)


def test_a_sprite_holds_every_picture_in_its_place():
    import io

    from PIL import Image

    pictures = [np.full((10, 20, 3), shade, np.uint8) for shade in range(0, 250, 6)]
    page = np.asarray(Image.open(io.BytesIO(insight.sprite(pictures))))
    side = insight.THUMBNAIL
    for number, picture in enumerate(pictures):
        y, x = (divmod(number, insight.COLUMNS)[0] + 0.5) * side, (number % insight.COLUMNS + 0.5) * side
        assert abs(int(page[int(y), int(x), 0]) - int(picture[0, 0, 0])) < 12

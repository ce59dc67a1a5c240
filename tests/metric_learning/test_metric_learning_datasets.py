"""Data sets from disk: every layout, made here in small; where they are looked for; what is said if they are wrong."""

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from sklearn.datasets import load_digits

from escapevelocity.errors import UserError
from escapevelocity.image_files import read_idx
from escapevelocity.metric_learning.datasets import cache_folder, load_halves
from escapevelocity.metric_learning.datasets.places import content
from escapevelocity.metric_learning.download import SOURCES, sha256_of

NAMED = os.environ.get("EV_DATA_DIR")  # Tests do not see it, but for those of real files.
IDX = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


@pytest.fixture(autouse=True)
def nothing_elsewhere(tmp_path_factory, monkeypatch):
    """No data but what a test makes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("EV_DATA_DIR", raising=False)


def write_idx(path, values):
    header = struct.pack(">4B", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def write_mnist(folder, part, labels, first=0):
    """Every image has one value throughout, its number from `first` on."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.arange(first, first + len(labels))
    write_idx(
        folder / f"{part}-images-idx3-ubyte.gz", np.broadcast_to(values[:, None, None], (len(labels), 28, 28))
    )
    write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.asarray(labels))


def write_omniglot(path, characters, drawings=3):
    """Every drawing is white but for a black column, whose place tells the character and the drawing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for index, character in enumerate(characters):
            for drawing in range(drawings):
                paper = np.full((105, 105), 255, np.uint8)
                paper[:, 10 * index + drawing] = 0
                buffer = io.BytesIO()
                Image.fromarray(paper).convert("1").save(buffer, "png")
                archive.writestr(f"images/{character}/{drawing:02d}.png", buffer.getvalue())


def write_jpeg(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), (value, value, value)).save(path)


def write_cub(folder, classes=("001.Auk", "002.Bee_eater", "003.Crow", "004.Dove"), each=3):
    for value, name in enumerate(classes):
        for number in range(each):
            write_jpeg(folder / "images" / name / f"{name[4:]}_{number}.jpg", 10 * value + number)


def write_sop(folder, train=2, test=3, each=3):
    """Products 1, 2, … in folders of their kind, listed as the original lists them."""
    number = 0
    for part, classes in (("train", range(1, train + 1)), ("test", range(train + 1, train + test + 1))):
        lines = ["image_id class_id super_class_id path"]
        for product in classes:
            for view in range(each):
                number += 1
                path = f"{'bicycle' if product % 2 else 'chair'}_final/{1000 + product}_{view}.JPG"
                write_jpeg(folder / path, number)
                lines.append(f"{number} {product} {1 if product % 2 else 2} {path}")
        (folder / f"Ebay_{part}.txt").write_text("\n".join(lines) + "\n")


def write_cars(folder, classes=("AM General", "Acura RL", "smart fortwo"), each=3):
    """As the devkit: cars_annos.mat beside car_ims, and the classes from 1 on."""
    fields = [("relative_im_path", object), ("class", object), ("test", object)]
    rows = []
    for number in range(each * len(classes)):
        name = f"car_ims/{number + 1:06d}.jpg"
        write_jpeg(folder / name, number)
        rows.append((name, np.uint8(number % len(classes) + 1), np.uint8(number % 2)))
    annotations = np.array(rows, dtype=fields).reshape(1, -1)
    names = np.array(classes, dtype=object).reshape(1, -1)
    scipy.io.savemat(folder / "cars_annos.mat", {"annotations": annotations, "class_names": names})


def files_of(part):
    """class name -> the names of its images."""
    paths = [Path(path).name for path in part.images.paths]
    return {
        name: [paths[i] for i in np.flatnonzero(part.labels == index)]
        for index, name in enumerate(part.classes)
    }


def test_digits_are_scikit_learns_and_half_of_them_train():
    train, test = load_halves("digits")
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    for part, numbers in ((train, range(5)), (test, range(5, 10))):
        assert part.classes == tuple(map(str, numbers))
        assert part.images.shape == (8, 8, 1)
        expected = pixels[np.isin(labels, numbers)]
        batch = part.images.batch(np.arange(len(part.images)), None)
        np.testing.assert_array_equal(batch.reshape(-1, 64) * 16, expected)
        np.testing.assert_array_equal(part.labels, labels[np.isin(labels, numbers)] - numbers[0])
    assert len(train.images) + len(test.images) == 1797


def test_mnist_is_its_training_and_its_test_files_together_and_lower_digits_train(tmp_path):
    write_mnist(tmp_path / "mnist", "train", [3, 1, 2, 0])
    write_mnist(tmp_path / "mnist", "t10k", [1, 0], first=4)
    train, test = load_halves("mnist", tmp_path)
    assert (train.classes, test.classes) == (("0", "1"), ("2", "3"))
    assert train.images.shape == (28, 28, 1)
    whole = train.images.batch(np.arange(4), None)
    assert whole.dtype == np.float32
    # Images 1 and 3 of train and both of t10k; every pixel of an image is its number.
    np.testing.assert_array_equal(np.round(whole * 255)[:, 5, 5, 0], [1, 3, 4, 5])
    np.testing.assert_allclose(whole, np.broadcast_to(whole[:, :1, :1], whole.shape))
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 0, 1, 0], [1, 0])


def test_mnists_test_files_alone_are_all_there_is(tmp_path, monkeypatch):
    write_mnist(tmp_path, "t10k", [7, 5, 5, 7])
    monkeypatch.setenv("EV_DATA_DIR", str(tmp_path))
    train, test = load_halves("mnist")
    assert (train.classes, len(train.images), test.classes, len(test.images)) == (("5",), 2, ("7",), 2)


def test_fashion_mnist_names_its_classes_and_keeps_their_order(tmp_path):
    write_mnist(tmp_path / "fashion-mnist", "t10k", list(range(10)) * 2)
    train, test = load_halves("fashion-mnist", tmp_path)
    assert train.classes == ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
    assert test.classes == ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def test_what_is_known_to_be_the_other_mnists_is_refused(tmp_path, monkeypatch):
    write_mnist(tmp_path, "t10k", [0, 1, 2, 3])
    known = SOURCES["mnist"][0]._replace(sha256=sha256_of(tmp_path / IDX[1]))
    monkeypatch.setitem(SOURCES, "mnist", (known,))
    load_halves("mnist", tmp_path)
    with pytest.raises(
        UserError, match=r"t10k-labels.*: is a file of mnist; those of fashion-mnist must be in"
    ):
        load_halves("fashion-mnist", tmp_path)


def test_omniglot_trains_on_small1_and_tests_on_the_alphabets_that_are_new_in_small2(tmp_path):
    write_omniglot(
        tmp_path / "omniglot/images_background_small1.zip", ["Korean/character02", "Greek/character01"]
    )
    new = ["Tagalog/character01", "Greek/character02", "Sanskrit/character01"]
    write_omniglot(tmp_path / "omniglot/images_background_small2.zip", new)
    train, test = load_halves("omniglot", tmp_path)
    assert (train.classes, train.labels.tolist()) == (
        ("Greek/character01", "Korean/character02"),
        [0, 0, 0, 1, 1, 1],
    )
    assert (test.classes, test.labels.tolist()) == (
        ("Sanskrit/character01", "Tagalog/character01"),
        [0, 0, 0, 1, 1, 1],
    )
    # Greek's column 10 lies wholly in the box of pixels 7.5 to 11.25: 1/3.75 of its ink, in each of 28 rows.
    drawing = train.images.batch(np.array([0]), None)[0, :, :, 0]
    assert drawing.shape == (28, 28)
    np.testing.assert_allclose(drawing[:, 2], 1 / 3.75, rtol=1e-6)
    assert np.flatnonzero(drawing.sum(axis=0)).tolist() == [2]


def test_omniglot_without_a_new_alphabet_cannot_be_tested(tmp_path):
    for part in (1, 2):
        write_omniglot(tmp_path / f"images_background_small{part}.zip", ["Greek/character01"])
    with pytest.raises(
        UserError, match=r"small2\.zip: alphabets that .*small1\.zip has not = 0: must be one or more"
    ):
        load_halves("omniglot", tmp_path)


@pytest.mark.parametrize("place", ["cub200/CUB_200_2011", "cub200", "CUB_200_2011", "."])
def test_birds_are_a_folder_for_every_class_and_the_first_half_trains(place, tmp_path):
    write_cub(tmp_path / place)
    (tmp_path / place / "images/001.Auk/.hidden.jpg").write_bytes(b"")
    (tmp_path / place / "images/001.Auk/notes.txt").write_bytes(b"")
    (tmp_path / place / "images/.cache").mkdir()
    train, test = load_halves("cub200", tmp_path)
    assert files_of(train) == {
        "001.Auk": ["Auk_0.jpg", "Auk_1.jpg", "Auk_2.jpg"],
        "002.Bee_eater": ["Bee_eater_0.jpg", "Bee_eater_1.jpg", "Bee_eater_2.jpg"],
    }
    assert test.classes == ("003.Crow", "004.Dove")
    assert test.images.batch(np.array([0]), None).shape == (1, 224, 224, 3)


def test_a_birds_list_must_be_complete_on_disk(tmp_path):
    write_cub(tmp_path)
    images = sorted((tmp_path / "images").rglob("*.jpg"))
    listed = [f"{n} {path.relative_to(tmp_path / 'images')}" for n, path in enumerate(images, start=1)]
    (tmp_path / "images.txt").write_text("\n".join(listed) + "\n")
    load_halves("cub200", tmp_path)
    images[4].unlink()
    said = r"images of images\.txt that are missing = 1: must be 0 of 12; the first is .*Bee_eater_1\.jpg.*unpack"
    with pytest.raises(UserError, match=said):
        load_halves("cub200", tmp_path)


def test_cars_are_read_from_the_devkits_list_in_its_order(tmp_path):
    write_cars(tmp_path / "cars196")
    train, test = load_halves("cars196", tmp_path)
    assert files_of(train) == {"AM General": ["000001.jpg", "000004.jpg", "000007.jpg"]}
    assert files_of(test) == {
        "Acura RL": ["000002.jpg", "000005.jpg", "000008.jpg"],
        "smart fortwo": ["000003.jpg", "000006.jpg", "000009.jpg"],
    }


@pytest.mark.parametrize("roots", [["images"], ["train", "test"], ["cars196/car_data/car_data/train", None]])
def test_cars_may_lie_in_a_folder_for_every_class(roots, tmp_path):
    roots = [root or roots[0].replace("train", "test") for root in roots]
    for number in range(8):
        name = ("Acura RL", "BMW M3")[number % 2]
        write_jpeg(tmp_path / roots[number // 4 % len(roots)] / name / f"{number}.jpg")
    train, test = load_halves("cars196", tmp_path)
    assert files_of(train) == {"Acura RL": ["0.jpg", "2.jpg", "4.jpg", "6.jpg"]}
    assert files_of(test) == {"BMW M3": ["1.jpg", "3.jpg", "5.jpg", "7.jpg"]}


def test_a_folder_of_birds_is_not_taken_for_cars(tmp_path):
    write_cub(tmp_path)
    (tmp_path / "images.txt").write_text("1 a/b.jpg\n")
    with pytest.raises(UserError, match=r"images\.txt = 'there': must be absent"):
        load_halves("cars196", tmp_path)


@pytest.mark.parametrize("damage", [b"not a mat file", b"", None])
def test_a_list_of_cars_that_is_none_is_refused(damage, tmp_path):
    write_cars(tmp_path)
    if damage is None:
        scipy.io.savemat(tmp_path / "cars_annos.mat", {"something": np.zeros(3)})
    else:
        (tmp_path / "cars_annos.mat").write_bytes(damage)
    with pytest.raises(UserError, match=r"cars_annos\.mat: must be the devkit's list of images") as caught:
        load_halves("cars196", tmp_path)
    assert "\n" not in str(caught.value)


def test_products_are_split_by_their_own_lists(tmp_path):
    write_sop(tmp_path / "sop/Stanford_Online_Products", train=2, test=10)
    train, test = load_halves("sop", tmp_path)
    assert files_of(train) == {
        "1": ["1001_0.JPG", "1001_1.JPG", "1001_2.JPG"],
        "2": ["1002_0.JPG", "1002_1.JPG", "1002_2.JPG"],
    }
    # In the order of their numbers, not of their digits.
    assert test.classes == ("3", "4", "5", "6", "7", "8", "9", "10", "11", "12")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("7 9 1", r"Ebay_test\.txt: line 11 = '7 9 1': must be image_id class_id super_class_id path"),
        ("7 nine 1 chair_final/1_0.JPG", r"Ebay_test\.txt: every class_id must be an integer \(.*'nine'\)"),
        (
            "7 9 1 chair_final/none.JPG",
            r"missing = 1: must be 0 of 10; the first is \['chair_final/none\.JPG'\]",
        ),
        ("7 9 1 ../chair.JPG", r"Ebay_test\.txt: path = '\.\./chair\.JPG': must be inside of"),
        ("7 9 1 /etc/passwd", r"Ebay_test\.txt: path = '/etc/passwd': must be inside of"),
        ("7 9 1 lamp_final/1_0.JPG", r"lamp_final: must be a readable folder of images \(No such file"),
    ],
)
def test_a_line_of_the_products_list_that_is_wrong_is_shown(line, said, tmp_path):
    write_sop(tmp_path)
    with open(tmp_path / "Ebay_test.txt", "a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=said):
        load_halves("sop", tmp_path)


def test_products_lists_need_their_header_and_classes_of_their_own(tmp_path):
    write_sop(tmp_path)
    (tmp_path / "Ebay_test.txt").write_text((tmp_path / "Ebay_train.txt").read_text())
    with pytest.raises(UserError, match=r"classes in both Ebay_train\.txt and Ebay_test\.txt = 2: must be 0"):
        load_halves("sop", tmp_path)
    (tmp_path / "Ebay_test.txt").write_text("1 1 1 chair_final/1_0.JPG\n")
    with pytest.raises(
        UserError, match=r"Ebay_test\.txt: line 1 = .*: must be image_id class_id super_class_id path"
    ):
        load_halves("sop", tmp_path)
    (tmp_path / "Ebay_test.txt").write_text("image_id class_id super_class_id path\n")
    with pytest.raises(UserError, match=r"Ebay_test\.txt: images listed = 0: must be one or more"):
        load_halves("sop", tmp_path)
    (tmp_path / "Ebay_test.txt").write_text("")
    with pytest.raises(UserError, match=r"Ebay_test\.txt: line 1 = '': must be image_id class_id"):
        load_halves("sop", tmp_path)
    (tmp_path / "Ebay_test.txt").unlink()
    with pytest.raises(UserError, match=r"Ebay_test\.txt: must be a readable text file"):
        load_halves("sop", tmp_path)


def test_images_that_lie_beside_the_folders_of_classes_are_a_wrong_layout(tmp_path):
    for number in range(6):
        write_jpeg(tmp_path / f"images/{number}.jpg")
    said = (
        r"images: folders of classes = 0: must be one for each class; the folder holds 0\.jpg, 1\.jpg, 2\.jpg, 3\.jpg"
        r" and 2 more"
    )
    with pytest.raises(UserError, match=said):
        load_halves("cub200", tmp_path)


def test_a_class_without_images_is_a_wrong_layout(tmp_path):
    write_cub(tmp_path)
    (tmp_path / "images/005.Eider/large").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"005\.Eider: images = 0: must be one or more .*the folder holds large/"
    ):
        load_halves("cub200", tmp_path)


def test_a_single_class_cannot_be_split(tmp_path):
    write_cub(tmp_path, classes=("001.Auk",))
    with pytest.raises(UserError, match="classes of cub200 = 1: must be at least 2"):
        load_halves("cub200", tmp_path)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("mnist", r"train-images-idx3-ubyte\.gz"),
        ("fashion-mnist", "those of t10k alone will do"),
        ("omniglot", r"images_background_small1\.zip and images_background_small2\.zip"),
        ("cub200", "CUB_200_2011, unpacked: images/CLASS"),
        ("cars196", r"cars_annos\.mat with car_ims"),
        ("sop", r"Ebay_train\.txt, Ebay_test\.txt"),
    ],
)
def test_missing_files_are_told_with_every_place_and_what_it_holds(name, needed, tmp_path, monkeypatch):
    (tmp_path / "given" / name / "wrong").mkdir(parents=True)
    (tmp_path / "named").mkdir()
    monkeypatch.setenv("EV_DATA_DIR", str(tmp_path / "named"))
    cache = cache_folder()
    said = (
        rf"data = '{name}': found none in {tmp_path}/given/{name} \(holds wrong/\), {tmp_path}/named \(empty\),"
        rf" {cache} \(not there\); needed: .*{needed}.*; put it there or into a folder {name} there,"
        r" or name another place with --data-dir or EV_DATA_DIR.*--download"
    )
    with pytest.raises(UserError, match=said) as caught:
        load_halves(name, tmp_path / "given")
    assert "\n" not in str(caught.value)


def test_half_of_omniglot_is_told_what_is_there_and_what_is_needed(tmp_path):
    write_omniglot(tmp_path / "omniglot/images_background_small1.zip", ["Greek/character01"])
    with pytest.raises(UserError, match=r"omniglot \(holds images_background_small1\.zip\).*small2\.zip"):
        load_halves("omniglot", tmp_path)


def test_the_given_folder_comes_before_the_named_one_and_that_before_the_cache(tmp_path, monkeypatch):
    places = [tmp_path / "given", tmp_path / "named/mnist", cache_folder() / "mnist"]
    for first, place in enumerate(places):
        write_mnist(place, "t10k", [0, 1], first=10 * first)
    monkeypatch.setenv("EV_DATA_DIR", str(tmp_path / "named"))

    def value(data_dir):
        return round(
            float(load_halves("mnist", data_dir)[0].images.batch(np.array([0]), None)[0, 0, 0, 0] * 255)
        )

    assert value(tmp_path / "given") == 0
    assert value(None) == 10
    monkeypatch.delenv("EV_DATA_DIR")
    assert value(None) == 20
    (tmp_path / "empty").mkdir()
    assert value(tmp_path / "empty") == 20


def test_a_given_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match=f"data-dir = '{tmp_path}/typo': must be a folder that exists"):
        load_halves("mnist", tmp_path / "typo")


def test_an_unknown_set_is_refused_with_the_known_ones():
    with pytest.raises(
        UserError, match="data = 'cifar': must be one of digits, mnist, fashion-mnist, omniglot, cub200"
    ):
        load_halves("cifar")


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda raw: raw[:20] + b"\xff" * 20 + raw[40:]]
)
def test_gzip_files_that_are_cut_off_or_overwritten_are_refused(damage, tmp_path):
    write_mnist(tmp_path, "t10k", [0, 1])
    path = tmp_path / IDX[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        UserError, match=r"t10k-images-idx3-ubyte\.gz: must be a readable gzip file with IDX data"
    ):
        read_idx(path, 3)


def test_images_of_two_sizes_cannot_make_one_set(tmp_path):
    write_mnist(tmp_path, "t10k", [0, 1])
    write_mnist(tmp_path, "train", [0, 1])
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((2, 14, 14)))
    with pytest.raises(
        UserError, match=r"sizes of the images of train and t10k = .*14.*28.*: must be the same"
    ):
        load_halves("mnist", tmp_path)


def test_a_folders_content_is_told_in_a_few_words(tmp_path):
    assert content(tmp_path / "none") == "not there"
    assert content(tmp_path) == "empty"
    for name in "edcba":
        (tmp_path / name).touch()
    (tmp_path / "z").mkdir()
    assert content(tmp_path) == "holds z/, a, b, c and 2 more"
    assert content(tmp_path / "a").startswith("unreadable")


@pytest.fixture
def shared_data():
    """The folder of real files beside the project, if there is one."""
    return Path(NAMED or Path(__file__).parents[3] / "shared" / "data")


def test_the_real_omniglot_has_136_characters_for_training_and_106_for_testing(shared_data):
    if not (shared_data / "omniglot/images_background_small2.zip").exists():
        pytest.skip("needs Omniglot's two small zip files: set EV_DATA_DIR")
    train, test = load_halves("omniglot", shared_data)
    for part, classes in ((train, 136), (test, 106)):
        assert len(part.classes) == classes
        assert np.bincount(part.labels).tolist() == [20] * classes
        batch = part.images.batch(np.arange(0, len(part.images), 7), None)
        assert 0 <= batch.min() < 0.01  # Paper is 0,
        assert 0.9 < batch.max() <= 1  # ink 1,
        assert 0.02 < batch.mean() < 0.12  # and a line is thin.
    alphabets = [{name.split("/")[0] for name in part.classes} for part in (train, test)]
    assert alphabets == [
        {"Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"},
        {"Japanese_(katakana)", "Sanskrit", "Tagalog"},
    ]


def test_the_real_mnist_has_ten_classes(shared_data):
    if not (shared_data / "mnist" / IDX[0]).exists():
        pytest.skip("needs MNIST's test files: set EV_DATA_DIR")
    train, test = load_halves("mnist", shared_data)
    assert (train.classes, test.classes) == (tuple("01234"), tuple("56789"))
    assert len(train.images) + len(test.images) in (10_000, 70_000)

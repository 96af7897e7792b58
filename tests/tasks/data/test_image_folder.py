import numpy as np
import pytest
from PIL import Image

from tasks.data.sources import image_folder


def picture(path, colour, size=(4, 3), **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = {int: "L", tuple: "RGB"}[type(colour)]
    Image.new(mode, size, colour).save(path, **save)


def test_image_folder_reads_classes_and_pixels(tmp_path):
    picture(tmp_path / "dog" / "deep" / "1.png", 7)
    picture(tmp_path / "cat" / "1.BMP", 9)
    (tmp_path / "cat" / ".DS_Store").touch()
    raw = image_folder(".", root=tmp_path)
    assert raw.classes == ("cat", "dog") and raw.y.tolist() == [0, 1]
    assert raw.x.shape == (2, 1, 3, 4) and raw.x[:, 0, 0, 0].tolist() == [9, 7]
    assert raw.table["file"].tolist() == ["cat/1.BMP", "dog/deep/1.png"] and raw.given_split is None


def test_one_coloured_image_makes_all_of_them_rgb(tmp_path):
    picture(tmp_path / "a" / "1.png", 7)
    picture(tmp_path / "b" / "1.png", (1, 2, 3))
    assert image_folder(".", root=tmp_path).x[:, :, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3]]
    assert image_folder(".", channels=1, root=tmp_path).x.shape == (2, 1, 3, 4)


def test_size_is_height_then_width(tmp_path):
    picture(tmp_path / "a" / "1.png", 7)
    picture(tmp_path / "a" / "2.png", 8, size=(9, 9))
    with pytest.raises(ValueError, match=r"2\.png: is 9 x 9, the first image 3 x 4; set size"):
        image_folder(".", root=tmp_path)
    assert image_folder(".", size=[6, 5], root=tmp_path).x.shape == (2, 1, 6, 5)


def test_a_photograph_is_turned_as_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture(tmp_path / "a" / "1.jpg", 7, exif=exif)
    assert image_folder(".", root=tmp_path).x.shape == (1, 1, 4, 3)


def test_train_and_test_folders_are_the_given_split(tmp_path):
    for part, name in (("test", "a"), ("train", "a"), ("train", "b")):
        picture(tmp_path / part / name / "1.png", 7)
    raw = image_folder(".", root=tmp_path)
    assert raw.classes == ("a", "b") and raw.table[raw.given_split].tolist() == ["test", "train", "train"]
    picture(tmp_path / "val" / "a" / "1.png", 7)
    with pytest.raises(ValueError, match="beside train/ and test/ there is val"):
        image_folder(".", root=tmp_path)


def damaged(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("name", ["1.png", "1.jpg", "1.gif", "1.tif"])
@pytest.mark.parametrize("damage", [damaged, lambda content: b"", lambda content: b"text"])
def test_a_damaged_image_is_named(tmp_path, name, damage):
    path = tmp_path / "a" / name
    path.parent.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^{path}: ") as error:
        image_folder(".", root=tmp_path)
    assert "\n" not in str(error.value)


def test_a_decompression_bomb_is_refused_unread(tmp_path):
    picture(tmp_path / "a" / "1.png", 0, size=(8000, 7000))
    with pytest.raises(ValueError, match=r"1\.png: is 8000 x 7000; more than 50,000,000 pixels"):
        image_folder(".", size=8, root=tmp_path)


def test_what_an_image_folder_must_not_hold(tmp_path):
    with pytest.raises(ValueError, match="no images; there must be one folder per class"):
        image_folder(".", root=tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="a: a class without images"):
        image_folder(".", root=tmp_path)
    (tmp_path / "a" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"notes\.txt: no image by its name"):
        image_folder(".", root=tmp_path)
    (tmp_path / "a" / "notes.txt").unlink()
    Image.new("I;16", (4, 4)).save(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match=r"1.png: is I;16, not 8 bits per channel"):
        image_folder(".", root=tmp_path)


@pytest.mark.parametrize("arguments", [{"size": 0}, {"size": [1, 2, 3]}, {"size": "big"}, {"channels": 4}])
def test_bad_arguments_of_image_folder(tmp_path, arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} is .*; it must be"):
        image_folder(".", root=tmp_path, **arguments)

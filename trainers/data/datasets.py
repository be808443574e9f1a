"""The data sets of the paper: what each is, how many images it has, and how copies are laid out.

Pure. None is shipped: all but the embedded photographs are for the user to get, under their own
terms. Any other folder of images is a data set as well, but nothing is known about it here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trainers.errors import did_you_mean

ACADEMIC = "academic use; no redistribution"
CUSTOMARY = "none stated; customary research use"
BERKELEY = "non-commercial research and education"
PATCH_WISE: Mapping[str, int] = MappingProxyType({"denoise": 256, "jpeg": 256})


@dataclass(frozen=True)
class Layout:
    """Where the images of a set are below its folder, as templates of their paths without suffix.

    `gt` is the template for GT and `lq`, in sets of pairs, the one for their partners. `{key}` is
    the image's name in the set, folders included. With a `{scale}`, the set holds its images once
    for each scale, cropped to multiples of it. An `alone` layout does not apply if there are other
    images.
    """

    gt: str
    lq: str | None = None
    alone: bool = False

    def __str__(self) -> str:
        def place(template: str) -> str:
            return (
                re.sub(r"\[.*\]", "", template).replace("{folders}", "")
                if template != "{key}"
                else "the folder itself"
            )

        return place(self.gt) + (f" with {place(self.lq)}" if self.lq else "")


FLAT = (
    Layout("HR/x{scale}/{key}[_HR_x{scale}]", alone=True),
    Layout("HR/{key}"),
    Layout("GT/{key}"),
    Layout("GTmod{scale}/{key}"),  # BasicSR's GTmod12, HAT's GTmod2 to GTmod4
    Layout("{folders}{key}_SRF_{scale}_HR"),  # SelfExSR's image_SRF_2/img_001_SRF_2_HR
    Layout("x{scale}/{key}[_HR_x{scale}]", alone=True),  # RCAN's HR/Set5/x2/baby_HR_x2
    Layout("{key}"),
)
PAIRS = Layout("target/{key}", "input/{key}")


@dataclass(frozen=True)
class Dataset:
    """The known facts about a published set.

    `images` are the counts that a complete copy may have; in a set of pairs, of pairs. `layouts`
    are tried in order. `parts` are the sets that it is made of. `crops_px` is, by task, the side of
    the squares that images are cut into for evaluation; remainders are dropped.
    """

    name: str
    about: str
    images: tuple[int, ...]
    terms: str
    page: str
    layouts: tuple[Layout, ...] = FLAT
    also_named: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    crops_px: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    note: str = ""


_ALL = (
    Dataset(
        "embedded-train",
        "photographs inside the scikit-image wheel, for training",
        (7,),
        "free to use; see the wheel",
        "https://scikit-image.org/docs/stable/api/skimage.data.html",
    ),
    Dataset(
        "embedded-test",
        "photographs inside the scikit-image wheel, for evaluation",
        (2,),
        "free to use; see the wheel",
        "https://scikit-image.org/docs/stable/api/skimage.data.html",
        note="disjoint from embedded-train",
    ),
    Dataset(
        "DF2K",
        "DIV2K and Flickr2K together: training, all tasks but deraining",
        (3450,),
        ACADEMIC,
        "https://github.com/XPixelGroup/BasicSR/blob/master/docs/DatasetPreparation.md",
        parts=("DIV2K", "Flickr2K"),
    ),
    Dataset(
        "DIV2K",
        "2K photographs, the training part: 0001 to 0800",
        (800,),
        ACADEMIC,
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        (Layout("DIV2K_train_HR/{key}"), *FLAT),
        also_named=("DIV2K_train_HR",),
        note="0801 to 0900 are its validation part: do not train on them",
    ),
    Dataset(
        "Flickr2K",
        "2K photographs from Flickr",
        (2650,),
        ACADEMIC,
        "https://github.com/limbee/NTIRE2017",
        (Layout("Flickr2K_HR/{key}"), *FLAT),
        also_named=("Flickr2K_HR",),
    ),
    Dataset(
        "BSDS400",
        "Berkeley segmentation set, its training and test parts: training",
        (400,),
        BERKELEY,
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
        note="the 100 validation images of BSDS500 are BSD100 and contain CBSD68: "
        "do not train on all 500",
    ),
    Dataset(
        "Rain13K",
        "rainy and clean pairs from five sources: training for deraining",
        (13711, 13712),
        ACADEMIC,
        "https://github.com/swz30/MPRNet",
        (PAIRS, Layout("train/Rain13K/target/{key}", "train/Rain13K/input/{key}")),
        note="papers count 13,712 pairs; one was withdrawn, so the download has 13,711 "
        "(MPRNet issue 74)",
    ),
    Dataset(
        "Set5",
        "super-resolution",
        (5,),
        CUSTOMARY,
        "https://people.rennes.inria.fr/Aline.Roumy/results/SR_BMVC12.html",
    ),
    Dataset(
        "Set14",
        "super-resolution",
        (14,),
        CUSTOMARY,
        "https://sites.google.com/site/romanzeyde/research-interests",
        note="some copies contain one gray image, which becomes three equal channels",
    ),
    Dataset(
        "BSD100",
        "super-resolution",
        (100,),
        BERKELEY,
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/",
        also_named=("B100",),
        note="equals the validation part of BSDS500 and contains CBSD68",
    ),
    Dataset(
        "Urban100",
        "buildings: super-resolution; denoising and JPEG in squares of 256 pixels (1,004 of them)",
        (100,),
        CUSTOMARY,
        "https://github.com/jbhuang0604/SelfExSR",
        crops_px=PATCH_WISE,
    ),
    Dataset(
        "Manga109",
        "drawn pages: super-resolution",
        (109,),
        "academic use; no redistribution",
        "http://www.manga109.org/",
    ),
    Dataset(
        "CBSD68",
        "colour denoising",
        (68,),
        BERKELEY,
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/",
        note="contained in the validation part of BSDS500",
    ),
    Dataset(
        "Kodak24",
        "colour denoising",
        (24,),
        "released for free use",
        "https://r0k.us/graphics/kodak/",
        note="denoising papers use crops of 500 x 500 pixels as well as the originals of "
        "768 x 512; their scores differ",
    ),
    Dataset(
        "McMaster",
        "colour denoising",
        (18,),
        CUSTOMARY,
        "https://www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm",
    ),
    Dataset(
        "LIVE1",
        "JPEG artefact removal",
        (29,),
        "free for research, with citation",
        "https://live.ece.utexas.edu/research/quality/subjective.htm",
    ),
    Dataset(
        "Classic5",
        "JPEG artefact removal, gray",
        (5,),
        CUSTOMARY,
        "https://github.com/jiaxi-jiang/FBCNN",
        note="gray becomes three equal channels",
    ),
    Dataset(
        "Test100",
        "deraining pairs",
        (98, 100),
        ACADEMIC,
        "https://github.com/swz30/MPRNet",
        (PAIRS, Layout("test/Test100/target/{key}", "test/Test100/input/{key}")),
        note="named after 100 pairs; the copy in use since MSPFN has 98 (MPRNet issue 23)",
    ),
    Dataset(
        "Rain100L",
        "deraining pairs, light rain",
        (100,),
        ACADEMIC,
        "https://github.com/swz30/MPRNet",
        (PAIRS, Layout("test/Rain100L/target/{key}", "test/Rain100L/input/{key}")),
    ),
)

DATASETS: Mapping[str, Dataset] = MappingProxyType({dataset.name: dataset for dataset in _ALL})
ANY = Dataset("", "a folder of images", (), "", "", (PAIRS, *FLAT))


def meant(name: str) -> str:
    """`" Did you mean 'Set5'?"` for a near miss of a known set, else `""`."""
    names = [alias for known in _ALL for alias in (known.name, *known.also_named)]
    return "" if name in names else did_you_mean(name, names)


def dataset(name: str) -> Dataset:
    """The known facts about the set of this name; ANY if it is not one of the paper's."""
    return DATASETS.get(name, ANY)

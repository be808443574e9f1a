"""The tables of what is observed of a trial: probes and metrics.

Pure: planning reads it without torch. Nothing here is part of a trial's identity, unlike the tables
of trainers.catalog.
"""

from __future__ import annotations

from trainers.entries import Catalog, entry

# A probe's name, or the class of a user's own.
# Not \w: pydantic takes a tenth of a second to compile repetitions of it, at every start.
PROBE_NAME = r"^([a-z][a-z0-9_]{0,63}|[A-Za-z_][A-Za-z0-9_.]{0,149}:[A-Za-z_][A-Za-z0-9_]{0,49})$"

# Facts of a probe: `gives` is for the documentation. `guards` says that the guard judges by what it
# measures, so that it runs even where no one asked for it.
PROBES = Catalog(
    "probe",
    entry(
        "features",
        "trainers.probes.features:Features",
        facts={
            "gives": "mean of x² and max of \\|x\\| at each group's output, "
            "channel entropy at the last",
            "guards": True,
        },
    ),
    entry(
        "channels",
        "trainers.probes.channels:Channels",
        facts={"gives": "arrays: mean of x² of each channel at each group's output"},
    ),
    entry(
        "blocks",
        "trainers.probes.blocks:Blocks",
        facts={"gives": "mean of x² and max of \\|x\\| at each residual block's output"},
    ),
    entry(
        "entropy",
        "trainers.probes.entropy:Entropy",
        facts={
            "gives": "channel entropy, and the share of energy of the top channel, "
            "at each group's output"
        },
    ),
    entry(
        "scale",
        "trainers.probes.scale:Scale",
        facts={
            "gives": "the factor that each norm of a block gives back to its branch: sigma of "
            "`i_ln`, the weights of `layer_scale` and `rezero`; other norms have none. "
            "Arrays: the same, signed and per channel"
        },
    ),
    entry(
        "bias_alignment",
        "trainers.probes.bias_alignment:BiasAlignment",
        facts={
            "gives": "how the final norm's \\|bias\\| agrees with the RMS of its input's channels: "
            "Pearson, Spearman, equal argmax, overlap of the three largest. Arrays: both"
        },
    ),
    entry(
        "position_bias",
        "trainers.probes.position_bias:PositionBias",
        facts={
            "gives": "roughness (Geary's C: 0 is smooth, 1 is noise) of the position bias tables. "
            "Arrays: the tables as maps, HAT's overlapping one un-rolled"
        },
    ),
    entry(
        "fp16_range",
        "trainers.probes.fp16_range:Fp16Range",
        facts={
            "gives": "max of \\|x\\| over 65504, fp16's largest finite number, at the layer where "
            "that is largest. Arrays: at every layer"
        },
    ),
    entry_points="normsweep.probes",
)

# A metric is a function from the two images, as a task compares them
# (trainers.metrics.image_quality.compared), to a number: the higher, the nearer they are.
# Facts: `title` and `decimals` are for tables; those of `normsweep evaluate` have `fine` decimals.
# `gives` is for the report and the documentation.
METRICS = Catalog(
    "metric",
    entry(
        "psnr",
        "trainers.metrics.image_quality:psnr",
        facts={"title": "PSNR (dB)", "decimals": 2, "fine": 3, "gives": "PSNR"},
    ),
    entry(
        "ssim",
        "trainers.metrics.image_quality:ssim",
        facts={
            "title": "SSIM",
            "decimals": 4,
            "fine": 4,
            "gives": "SSIM (11 \N{MULTIPLICATION SIGN} 11 Gaussian, "
            "\N{GREEK SMALL LETTER SIGMA} 1.5, valid area)",
        },
    ),
)

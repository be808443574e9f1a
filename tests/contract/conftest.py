"""The fixtures `job`, `rendered` and `objects`, which tests/manifests.py defines."""

from tests.manifests import each_folder, each_job, each_lot  # noqa: F401

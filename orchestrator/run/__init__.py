"""Running a sweep: trials trained by Ray Tune, one gang of workers each. Ray is imported nowhere else."""

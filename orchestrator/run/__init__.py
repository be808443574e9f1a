"""Running a sweep with Ray Tune, one gang of workers per trial. Ray is imported nowhere else."""

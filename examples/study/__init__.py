"""Parts of the study, which `run_study.py` beside this folder runs."""

#!/usr/bin/env bash
# From recordings to a comparison of two models on unseen subjects: bash examples/own_data/walk.sh FOLDER
set -euo pipefail
folder=${1:?give a folder for data, store and runs}
here=$(cd "$(dirname "$0")" && pwd)
common="--dataset manifest data.root=$folder/data store=$folder/store"

python "$here/make_data.py" "$folder/data"

# Check the data set and estimate the time and disk of a run. Writes nothing.
python -m orchestrator.doctor $common model=ridge

# Leave-one-subject-out: each subject is tested once, by a model fitted on the other subjects.
python -m orchestrator.loso $common model=ridge run.dir="$folder/ridge"
python -m orchestrator.loso $common model=random_forest run.dir="$folder/forest"

# Comparison paired by subject. Each run's folder contains its report.html.
python -m orchestrator.compare "$folder/ridge" "$folder/forest"

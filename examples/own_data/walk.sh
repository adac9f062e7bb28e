#!/usr/bin/env bash
# From recordings to a comparison of two models, on people that neither has seen: bash examples/own_data/walk.sh FOLDER
set -euo pipefail
folder=${1:?name a folder for data, store and runs}
here=$(cd "$(dirname "$0")" && pwd)
common="--dataset manifest data.root=$folder/data store=$folder/store"

python "$here/make_data.py" "$folder/data"

# Is the data set what it should be, and what will a run cost? Writes nothing.
python -m orchestrator.doctor $common model=ridge

# Each person tested once, by a model that was fitted on the others.
python -m orchestrator.loso $common model=ridge run.dir="$folder/ridge"
python -m orchestrator.loso $common model=random_forest run.dir="$folder/forest"

# Paired by person. Each run's folder has its report.html.
python -m orchestrator.compare "$folder/ridge" "$folder/forest"

"""Where the paper, its released code and our default differ, and which of them a run took.

Paper: PeerJ CS 11:e3158 (text, tables) and its released code. Read from the run's configuration; a row appears only
where the run has the part it is about.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.models_needed import ESTIMATORS


class Choice(NamedTuple):
    what: str
    paper: str
    default: str
    ran: str


def choices(run: Mapping[str, Any]) -> list[Choice]:
    """Rows for the report; empty for a run without a configuration."""
    config = run.get("config")
    if not isinstance(config, Mapping):
        return []
    ours = run["model"] in ("dual", "video", "signal", "signal_small")
    video = ours and run.get("encoder") is not None
    signal = ours and run["model"] != "video"
    return [*_protocol(run, config), *(_video(config) if video else []), *(_signal(config) if signal else []),
            *(_fusion(run) if run["model"] == "dual" else [])]


def _protocol(run: Mapping[str, Any], config: Mapping[str, Any]) -> list[Choice]:
    leaky = run["leaky"]
    return [Choice("choosing the epoch", "text: best validation loss; code: best accuracy on the held-out person",
                   "best loss on inner validation people", _epoch(run, config)),
            Choice("scaling of signals", "z-score over the entire data set",
                   "mean and spread of the fold's training people", _scale(config.get("scale", "train_z"), leaky)),
            Choice("who pretrains", "20 % of the people, then tested on all of them",
                   "two groups, two encoders; each serves people it has not seen",
                   "nobody" if config.get("pretrain", {}).get("name") == "none" or not run.get("lineage") else
                   "one encoder for all" if leaky else
                   "one encoder; its people are not tested" if run["protocol"] == "exclude_pretrain" else
                   "two groups, two encoders")]


def _epoch(run: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if run["model"] in ESTIMATORS:
        return "there are none to choose"
    if run["leaky"]:
        return "best accuracy on the held-out person"
    if config.get("protocol", {}).get("val") == "fixed_epochs":
        return "a fixed number of epochs"
    return f"{config.get('train', {}).get('monitor', 'val_loss')} of inner validation people"


def _scale(kind: str, leaky: bool) -> str:
    whose = "everybody" if leaky else "training people"
    return {"train_z": whose, "train_minmax": f"the range of {whose}", "clip_minmax": "the clip's own range",
            "subject_z": "the person's own clips"}[kind]


def _video(config: Mapping[str, Any]) -> list[Choice]:
    encoder, clip, pretrain = (config.get(name, {}) for name in ("encoder", "clip", "pretrain"))
    return [Choice("video encoder", "ViT-Small, 224 pixels", "ViT-Small, 224 pixels",
                   f"ViT-{str(encoder.get('scale', '-')).capitalize()}, {encoder.get('image_size', '-')} pixels"),
            Choice("decoder of the video MAE", "text: 8 blocks; code: 4", "8 blocks of half the width",
                   f"{encoder.get('decoder_depth', '-')} blocks"),
            Choice("gradient penalty of the critic", "text: yes; code: 0", "10",
                   str((pretrain.get("video") or {}).get("gp", "-"))),
            Choice("video tokens", "all", "all", {"none": "all", "2x2": "means of 2 x 2, declared as approximation",
                                                  "temporal": "means over time, declared as approximation"}.get(
                                                      config.get("embed", {}).get("pool", "none"), "-")),
            Choice("frames of a clip", "16 key frames", "16 key frames",
                   f"{clip.get('frames', '-')} of {'key frames' if config.get('frames') == 'keyframes' else 'all'}")]


def _signal(config: Mapping[str, Any]) -> list[Choice]:
    window, own = config.get("signal", {}), (config.get("model") or {}).get("signal") or {}
    encoder = {**config.get("smae", {}), **own}
    how = {"resample": "whole clip resampled, EMG as its envelope", "crop": "raw crop"}
    return [Choice("signal window", "400 steps; code: a raw crop of 0.8 s for pretraining, all steps for the classifier",
                   "whole clip resampled to 400 steps, EMG as its envelope",
                   f"{how.get(window.get('window_mode', ''), window.get('window_mode', '-'))}, "
                   f"{window.get('length', '-')} steps"),
            Choice("filtering", "text: band-pass and EMD; code: the provider's filtered files", "band-pass and EMD, from "
                   "raw files", f"from {config.get('data', {}).get('source', '-')} files"),
            Choice("signal encoder", "heads 4 (text) or 8 (table); code: trained from scratch, its reconstruction passed "
                   "on", "8 heads, pretrained, its latent passed on", f"{encoder.get('heads', '-')} heads, width "
                   f"{encoder.get('dim', '-')}, " + ("not pretrained" if config.get("pretrain", {}).get("name") == "none"
                                                     else "pretrained"))]


def _fusion(run: Mapping[str, Any]) -> list[Choice]:
    parameters = run.get("n_parameters")
    return [Choice("fusion", "text: Algorithm 1; code: joint cross-attention (tanh), another layer", "Algorithm 1",
                   "Algorithm 1" + (" with options" if (run["config"].get("model") or {}).get("dcan") else "")),
            Choice("parameters", "24.33 M by its table (HPA 0.9 M, which fits no model of that table)",
                   "23.92 M with ViT-Small (HPA 0.51 M)", f"{parameters / 1e6:.2f} M" if parameters else "-")]

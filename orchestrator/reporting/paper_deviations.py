"""Where the paper, its released code and our default differ, and which of them a run used.

Paper: PeerJ CS 11:e3158 (text, tables) and its released code. "This run" is read from the run's configuration and counted in
its folds; "our default" is the default configuration for the same data set and model. A row appears only if the model has
this part, and it names every option of the part.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from orchestrator.cohort.lineage import Lineage
from orchestrator.config.defaults import Values, filled, shipped
from orchestrator.config.model_inputs import SIGNALS, TOKENS, VIDEO, has_signal_encoder, is_classifier, is_estimator, needs_of
from orchestrator.scores.fold_result import FoldResult


class Deviation(NamedTuple):
    what: str
    paper: str
    default: str
    ran: str


class Row(NamedTuple):
    """cell: from flat values (and the run, for the column "this run") to words. keys: the options of the row."""

    what: str
    paper: str
    keys: tuple[str, ...]
    cell: Callable[[Values, Mapping[str, Any] | None], str]


def deviations(run: Mapping[str, Any], folds: Sequence[FoldResult] = ()) -> list[Deviation]:
    """Rows for the report; empty for a run without a configuration. folds: its ledger entries."""
    config = run.get("config")
    if not isinstance(config, Mapping):
        return []
    default, ran = shipped(run["dataset"], run["model"]), filled(config, run["model"])
    if ran.get("protocol.name") == "as_paper" and ran.get("protocol.as_paper_epochs") is not None:  # fit_fold.published
        ran |= {"train.lr_schedule": "constant", "train.lr_decay": 1.0, "train.plateau": True}
    here = {**run, "folds": folds}
    return [Deviation(row.what, row.paper, row.cell(default, None), row.cell(ran, here))
            for row in rows(run["dataset"], run["model"], ran)]


def rows(dataset: str, model: str, ran: Values) -> list[Row]:
    """The rows that apply to this model and data set."""
    wanted = needs_of(model)
    pretrains = TOKENS <= wanted or has_signal_encoder(model)
    found = [Row("split", SPLITS.get(dataset, "other data sets"),
                 ("split.name", "split.n", "split.k", "split.list", "split.test_subjects", "split.repeats", "split.seed",
                  "split.test", "split.classes", "data.subjects", "max_folds", "protocol.seeds"), _split),
             Row("training subjects", "all but the test subjects; none for validation (code)",
                 ("protocol.val_subjects", "protocol.val", "protocol.refit"), _trained)]
    if is_estimator(model):
        found += [Row("choosing the epoch", EPOCH, (), lambda values, run: "not used: the model has no epochs")]
    else:
        found += [Row("choosing the epoch", EPOCH, ("protocol.as_paper_epochs", "train.max_epochs", "train.patience",
                                                    "train.monitor", "train.stop"), _epoch), OPTIMISER]
    if SIGNALS <= wanted:
        found.append(Row("scaling of signals", "text: z-score over the entire data set, then Eq. 5; code: each clip by its own "
                         "range", ("scale",), _scale))
    if pretrains:
        found.append(Row("pretraining subjects",
                         "20 % of the subjects of BioVid A; tested on all of them, and used for the other data sets",
                         ("pretrain.name", "pretrain.from", "pretrain.fraction", "pretrain.subjects", "pretrain.seed",
                          "pretrain.seeds"), _pretrained))
    if wanted & (TOKENS | VIDEO):
        found += [*VIDEO_CLIPS, CLIP_PICTURES if wanted & VIDEO else CLIP_FRAMES]
    if TOKENS <= wanted:
        own = not _foreign(ran)
        found += [VIDEO_ENCODER if own else FOREIGN_ENCODER, VIDEO_TOKENS, *(VIDEO_MAE if own and _maes(ran) else ())]
    if SIGNALS <= wanted:
        found += SIGNAL
        if not is_estimator(model):
            found.append(AUGMENTED)
    if has_signal_encoder(model):
        found += [SIGNAL_ENCODER, LATENT, *(SIGNAL_MAE if _maes(ran) else ())]
    if is_classifier(model):
        found += [HPA, HEAD] if model != "dual" else [HPA, DCAN, *(() if ran.get("model.use_dcan", True) else (HEAD,))]
        found.append(Row("parameters", PARAMETERS, (), _parameters))
    else:
        found.append(Row("the model", MODELS.get(model, "not in the paper"),
                         tuple(key for key in ran if key.startswith("model.") and key != "model.name"), _model))
    return found


def _maes(values: Values) -> bool:
    return values.get("pretrain.name") == "mae"


def _foreign(values: Values) -> bool:
    """Whether the video encoder, with its size and training, comes from elsewhere."""
    return bool(values.get("pretrain.checkpoint") or values.get("pretrain.from"))


# ---- the protocol


SPLITS = {"biovid_a": "leave one subject out, 87 folds (five classes: 86 in the authors' list)",
          "biovid_b": "69 training and 17 test subjects; which ones is not published",
          "ai4pain": "41 training subjects; the 12 of the published validation set are tested"}
EPOCH = ("text: best validation loss, patience 10; code: best accuracy on the test subject, until the learning rate is down to "
         "1e-6, at most 1,000 epochs")
PARAMETERS = "both streams 24.33 M by its table; its HPA of 0.9 M fits no model there, and ours has 0.51 M with ViT-Small"


MODELS = {
    "resnet3d": "text: ResNet50 for temporal cubes; code: torchvision's r3d_18 with Kinetics weights",
    "vit3d": "code: tubelets 2 x 16 x 16, width 1024, 6 layers, 8 heads, from scratch",
    "vgg_rnn": "VGG-Face by frame, then a recurrent network", "transformer": "code: width 16, 8 heads, feed-forward 256",
    "lstm": "code: one bidirectional LSTM of 128 beside a convolutional net of 128, 256, 128",
    "convtran": "one ConvTran block on the raw channels, mean, linear", "svm": "Gaussian, cited; its features are not given",
    "e2e_mer": "ResNet-50 by frame and a convolutional net, then an LSTM; the code's nearest file is another network",
    "mte_mer": "recurrent encoders and class embeddings; the code's nearest file is another network"}


def _model(values: Values, run: Mapping[str, Any] | None) -> str:
    given = {key.removeprefix("model."): value for key, value in values.items() if key.startswith("model.")}
    said = ", ".join(f"{name} {show(value)}" for name, value in sorted(given.items()) if name != "name")
    return f"{given.get('name', '-')}, {said or 'as built'}"


def _split(values: Values, run: Mapping[str, Any] | None) -> str:
    v, name = values.get, values.get("split.name")
    words = {"loso": "leave one subject out", "lnso": f"leave {v('split.n')} subjects out",
             "kfold": f"{v('split.k')} folds over subjects", "cross_dataset": f"trained here, tested on {v('split.test')}, "
             f"{v('split.k')} folds for subjects of both"}
    said = words.get(str(name), str(name))
    if name == "fixed":
        drawn = f"; where drawn, {v('split.test_subjects') or 'a fifth of the'} subjects, {v('split.repeats')} draws"
        said = f"a fixed test set, split.list={v('split.list')}{drawn}"
    if name == "cross_dataset" and v("split.classes"):
        said += f", classes {show(v('split.classes'))} there"
    if name in ("lnso", "kfold", "fixed", "cross_dataset"):
        said += f", seed {v('split.seed')}"
    if v("data.subjects"):
        said += f"; of the subjects of data.subjects={v('data.subjects')}"
    if values.get("max_folds"):
        said += f"; only the first {values['max_folds']} folds"
    seeds = values.get("protocol.seeds") or [0]
    return said + (f"; seeds {', '.join(map(str, seeds))}" if seeds != [0] else "")


def _trained(values: Values, run: Mapping[str, Any] | None) -> str:
    folds = run["folds"] if run else ()
    if folds:  # counted, not planned
        fitted = [fold.fitted_subjects() for fold in folds]
        first = _sizes(len(fold.train_subjects) for fold in folds)
        kept = _sizes(len(set(fold.val_subjects) - set(fold.subjects)) for fold in folds)
        said = f"{_sizes(map(len, fitted))} subjects"
        if any(fold.refit for fold in folds):
            return said + f" in the end (refit); {first} while the epoch was chosen on {kept}"
        leaky = any(set(fold.val_subjects) & set(fold.subjects) for fold in folds)
        chosen = "epoch chosen on the test subjects" if leaky else \
            f"epoch chosen on {kept} more" if kept != "0" else "none for validation"
        return f"{said}; {chosen}"
    if is_estimator(str(values.get("model.name"))) or values.get("protocol.val") == "fixed_epochs":
        return "all but the test subjects; none for validation"
    kept = values.get("protocol.val_subjects") or "a tenth (at least 2)"
    refit = {None: ", with a refit on all of them under 20 subjects", True: ", then a refit on all of them",
             False: ", no refit"}
    return f"all but the test subjects; epoch chosen on {kept} of them" + refit[values.get("protocol.refit")]


def _sizes(counts: Any) -> str:
    found = sorted(set(counts))
    return "0" if not found else str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _epoch(values: Values, run: Mapping[str, Any] | None) -> str:
    v = values.get
    if v("protocol.name") == "as_paper":
        if v("protocol.as_paper_epochs") is None:
            return "best accuracy on the held-out subject"
        most = f"{v('protocol.as_paper_epochs'):,}"
        return f"best accuracy on the held-out subject, until the learning rate is down to 1e-6, at most {most} epochs"
    if v("protocol.val") == "fixed_epochs":
        return f"not chosen: {v('train.max_epochs')} epochs, fixed in advance"
    rule = f"patience {v('train.patience')}" if v("train.stop", "patience") == "patience" else \
        "until the learning rate is down to 1e-6"
    return f"best {v('train.monitor')} of inner validation subjects, {rule}, at most {v('train.max_epochs')} epochs"


def _scale(values: Values, run: Mapping[str, Any] | None) -> str:
    leaky = values.get("protocol.name") == "as_paper"
    whose = "all subjects, the test subject included" if leaky else "the fold's training subjects"
    kind = str(values.get("scale", "train_z"))
    return {"train_z": f"z-score over {whose}, to [-1, 1]", "train_minmax": f"range of {whose}",
            "clip_minmax": "each clip by its own range",
            "subject_z": "each subject's own clips, the test subject included (transductive)"}.get(kind, kind)


def _pretrained(values: Values, run: Mapping[str, Any] | None) -> str:
    v = values.get
    if v("pretrain.name") == "none" and not _foreign(values):
        return f"none: random weights{_pretrain_seed(values)}"
    seed = (f"; encoders from {v('pretrain.from')}" if v("pretrain.from") else "") + _pretrain_seed(values)
    if run is not None:
        lineages = [Lineage.from_json(lineage) for lineage in run.get("lineage") or ()]
        sizes = [len(lineage.everyone()) for lineage in lineages]
        if not sizes:
            return "none"
        proven = "" if all(lineage.is_proven() for lineage in lineages) else \
            "; further subjects are not known"
        plan = {"as_paper": "tested on all", "exclude_pretrain": "these subjects are not tested"}.get(
            str(v("protocol.name")), "each is used for test subjects outside its group")
        named = f", subjects given by pretrain.subjects={v('pretrain.subjects')}" if v("pretrain.subjects") else ""
        share = f" ({v('pretrain.fraction'):g} of them)" if v("pretrain.fraction") else ""
        return f"{len(sizes)} encoder{'s' * (len(sizes) > 1)} of {_sizes(sizes)} subjects{share}{named}; {plan}{proven}{seed}"
    share = f"{v('pretrain.fraction'):g}" if v("pretrain.fraction") else "20 % (under 20 subjects 40 %)"
    many = "two groups" if values.get("split.name") == "loso" else "up to three groups"
    return f"{many} of {share} of the subjects, an encoder each, used for test subjects outside its group{seed}"


def _pretrain_seed(values: Values) -> str:
    first, n = values.get("pretrain.seed"), values.get("pretrain.seeds") or 1
    return f", seed {first}" if n == 1 else f", {n} times, with seeds from {first}"


def _parameters(values: Values, run: Mapping[str, Any] | None) -> str:
    if run is None:
        return "counted when it runs"
    return f"{run['n_parameters'] / 1e6:.2f} M" if run.get("n_parameters") else "-"


# ---- rows of plain values


def show(value: Any) -> str:
    if value is None or value == [] or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(show, value)) + "]"
    return str(value)


def _listed(what: str, paper: str, switch: str = "", zero: bool = False, **parts: str) -> Row:
    """A row that names each of its options: parts are key (dots as __) -> words around {}. Options that are off (null, empty,
    false) are left out; with zero, those that are 0 as well. switch: the key that switches the whole part on."""
    keys = {name.replace("__", "."): words for name, words in parts.items()}

    def cell(values: Values, run: Mapping[str, Any] | None) -> str:
        if switch and values.get(switch) is False:
            return "not used"
        on = {key: value for key in keys if (value := values.get(key)) is not None and value is not False and value != []
              and value != () and not (zero and value == 0)}
        return ", ".join(keys[key].format(show(value)).removesuffix(": yes") for key, value in on.items()) or "none"

    return Row(what, paper, (*((switch,) if switch else ()), *keys), cell)


OPTIMISER = _listed(
    "optimiser", "text: RAdam 1e-3; code: Adam (0.5, 0.9) 1e-4, batch 6, rate halved on plateaus", train__optimizer="{}",
    train__lr="rate {}", train__lr_signal="of E_ts {}", train__batch_size="batch {}", train__lr_schedule="{}",
    train__lr_decay="times {} an epoch", train__plateau="halved on plateaus: {}", train__weight_decay="weight decay {}",
    train__label_smoothing="label smoothing {}", train__grad_clip="gradient clip {}")
_BUILT_IN_AUGMENTATIONS = _listed(
    "augmentation of training signals", "none", zero=True, train__signal_stretch="stretch {}", train__signal_shift="shift {}",
    train__signal_mirror="mirror {}", train__signal_rotate="rotation {}", train__signal_vectors="of {}",
    train__signal_scale="gain {}", train__signal_mix="mix {}", train__signal_noise="noise {}")


def _augmented(values: Values, run: Mapping[str, Any] | None) -> str:
    """Built-in augmentations, and those of plugins: train.augment.NAME.OPTION."""
    named = [_BUILT_IN_AUGMENTATIONS.cell(values, run)]
    named += [f"{key.removeprefix('train.augment.')} {show(value)}" for key, value in sorted(values.items())
              if key.startswith("train.augment.")]
    return ", ".join(named if named[0] != "none" else named[1:]) or "none"


AUGMENTED = _BUILT_IN_AUGMENTATIONS._replace(cell=_augmented)
VIDEO_CLIPS = [
    _listed("face crop", "text: FaceXZoo; code: RetinaFace, 224 pixels", face__provider="{}", face__size="{} pixels",
            face__image="kept as {}", face__score="probability {}", face__margin="margin {}",
            face__shift="follows a shift of {}", face__zoom="a zoom of {}", face__turn="a turn of {}",
            face__recount="faces counted again every {} frames", face__max_lost="at most {} of the frames without a face",
            face__min_frames="at least {} frames"),
    _listed("key frames", "text: distance to the previous key frame, 16 or more, no thresholds; code: pixels, 15 less 4 at a "
            "time, to the previous frame, the first 100", frames="of {}", keyframe__preset="preset {}",
            keyframe__norm="distance in {}", keyframe__t_init="from {}", keyframe__step="less {}", keyframe__t_min="to {}",
            keyframe__ref="to the {}", keyframe__k_min="at least {}", keyframe__k_max="at most {}")]
WINDOW = "16; sample rate 16 or 48, which in the code is the largest stride; random start, in the test as well"
FRAMES = {"clip__frames": "{}", "clip__rate": "largest stride {}"}
CLIP_FRAMES = _listed("frames of a clip", WINDOW, "", False, **FRAMES)
CLIP_PICTURES = _listed("frames of a clip", WINDOW, "", False, **FRAMES, encoder__image_size="{} pixels wide")
VIDEO_ENCODER = _listed(
    "video encoder", "ViT-Small: 12 x 384, 6 heads, tubelets 2 x 16 x 16, 224 pixels", encoder__scale="ViT-{}",
    encoder__depth="{} layers", encoder__dim="width {}", encoder__heads="{} heads", encoder__tubelet="tubelet {}",
    encoder__patch="patch {}", encoder__image_size="{} pixels")
FOREIGN_ENCODER = VIDEO_ENCODER._replace(keys=(), cell=lambda values, run: (
    "as given in its file, trained elsewhere" if run else VIDEO_ENCODER.cell(values, run)))
VIDEO_TOKENS = _listed(
    "video tokens", "all 1,568", embed__pool="mean over: {}", model__hpa__token_pool="in the classifier: {}",
    embed__dtype="stored as {}")
VIDEO_MAE = [
    _listed("decoder of the video MAE", "text: 8 blocks, width not given; code: 4 of width 192", encoder__decoder_depth=
            "{} blocks", encoder__decoder_dim="width {}", encoder__decoder_heads="heads {}", encoder__norm_target=
            "normalised targets: {}"),
    _listed("mask of the video MAE", "0.9; text: random; code: parts of the face first", pretrain__video__mask="{}",
            pretrain__video__mask_ratio="{}"),
    _listed("critic of the video MAE", "text: gradient penalty; code: weight 0.01, penalty 0", pretrain__video__adv_weight=
            "weight {}", pretrain__video__gp="penalty {}"),
    _listed("training of the video MAE", "AdamW 1.5e-4 x batch / 256, cosine; code: 200 epochs, 40 of warm-up, batch 16",
            pretrain__video__lr="rate {} x batch / 256", pretrain__video__betas="betas {}", pretrain__video__eps="eps {}",
            pretrain__video__epochs="{} epochs", pretrain__video__warmup="{} of warm-up", pretrain__video__batch="batch {}",
            pretrain__video__accumulate="in {} parts", pretrain__video__min_lr="to {}", pretrain__video__weight_decay=
            "weight decay {}", pretrain__video__clip="gradient clip {}", pretrain__precision="precision {}")]
SIGNAL = [
    _listed("signal window", "text: 400 steps (AI4Pain 200); code: a raw crop of 0.8 s for pretraining, 2,800 steps for the "
            "classifier", signal__window_mode="{}", signal__length="{} steps", signal__seconds="first seconds: {}",
            signal__envelope="envelope of EMG {}", signal__envelope_seconds="over {} s"),
    _listed("filtering, of such channels", "text: EMG 20 to 250 Hz and EMD, ECG 0.1 to 250 Hz; code: the provider's filtered "
            "files", data__source="from {} files", signal__source="taken as {}", signal__emg_band="EMG {} Hz",
            signal__emg_order="order {}", signal__emd="EMD: {}", signal__emd_options__lam="threshold {}",
            signal__emd_options__noise_seconds="of the quietest {} s", signal__emd_options__mode="{}",
            signal__emd_options__method="{}", signal__emd_options__trials="(CEEMDAN of {} trials)",
            signal__ecg_band="ECG {} Hz", signal__ecg_order="order {}", signal__causal="causal: {}",
            signal__gsr_lowpass="GSR low-pass {}", signal__gsr_detrend="detrended: {}",
            signal__fnirs_band="fNIRS {} Hz", signal__range_floor="still below {} of its size")]
E_TS = ("3 layers, width 64, heads 4 (text) or 8 (table, code); code: the classifier's is 128 wide, without positions, and "
        "starts from scratch")
SIZES = {"smae__dim": "width {}", "smae__depth": "{} layers", "smae__heads": "{} heads", "smae__ff": "feed-forward {}",
         "smae__norm": "{} norm", "smae__pos": "positions {}", "smae__dropout": "dropout {}",
         "pretrain__name": "pretraining {}"}
TOKENIZER = {"smae__tokenizer": "tokens by {}"}
CONVOLUTIONS = {"smae__max_tokens": "at most {}", "smae__conv_layers": "{} convolutions", "smae__conv_kernel": "of {}"}


def _signal_encoder() -> Row:
    """Convolutions are named only if they make the tokens."""
    whole = _listed("signal encoder", E_TS, "", False, **TOKENIZER, **CONVOLUTIONS, **SIZES)
    steps = _listed("signal encoder", E_TS, "", False, **TOKENIZER, **SIZES)

    def cell(values: Values, run: Mapping[str, Any] | None) -> str:
        return (whole if values.get("smae.tokenizer") == "conv" else steps).cell(values, run)

    return whole._replace(cell=cell)


SIGNAL_ENCODER = _signal_encoder()
LATENT = _listed("signal tokens", "text: the latent; code: the reconstruction", model__signal_output="{}")
SIGNAL_MAE = [
    _listed("signal MAE", "text: 0.3, loss as Eq. 3, Adam (0.5, 0.9) 1e-4, then RAdam for the decoder, batch 64; code: "
            "stretches of 3, masked points, 1e-3, 400 epochs", pretrain__signal__mask_ratio="mask {}",
            pretrain__signal__mask_length="stretches of {}", pretrain__signal__concurrent="channels together: {}",
            pretrain__signal__bernoulli="single points: {}", pretrain__signal__harden="hardening: {}",
            pretrain__signal__loss_on="loss on {}", pretrain__signal__lr="rate {}",
            pretrain__signal__split="two optimisers: {}", pretrain__signal__batch="batch {}",
            pretrain__signal__accumulate="in {} parts", pretrain__signal__epochs="{} epochs",
            pretrain__signal__clip="gradient clip {}", pretrain__precision="precision {}", smae__decoder="decoder {}",
            smae__decoder_depth="of {} layers")]
HPA = _listed(
    "HPA", "text: tAPE before the embedding, no residual; code: a ConvTran block, 64 filters of 8, 16 wide, 8 heads, "
    "feed-forward 256", "model.use_hpa", model__hpa__embed="{}", model__hpa__order="{}", model__hpa__residual=
    "residual: {}", model__hpa__erpe="eRPE {}", model__hpa__filters="{} filters", model__hpa__kernel="of {}", model__hpa__emb=
    "{} wide", model__hpa__heads="{} heads", model__hpa__ff="feed-forward {}", model__hpa__dropout="dropout {}",
    model__hpa__impl="computed {}")
DCAN = _listed(
    "fusion", "text: Algorithm 1, 2 layers, width 128, affinity not scaled; code: joint cross-attention (tanh), 1 layer, "
    "tokens compressed to 16", "model.use_dcan", model__dcan__fusion="{}", model__dcan__layers="{} layers",
    model__dcan__dim="width {}", model__dcan__hidden="hidden {}", model__dcan__scale="scaled: {}", model__dcan__compress=
    "compressed to {}", model__dcan__dropout="dropout {}", model__dcan__regressor="the unused regressor: {}")
HEAD = _listed("head", "means over tokens, one linear layer", model__pooling="{}", model__dropout="dropout {}")

"""The built-in models: one entry each, used by the command line, the checks, the cost estimates and the tables of the docs.

They are separate from the files of the networks, so that torch is not imported for their names. share: measured by
benchmarks/models.py on one thread, and used where a training step is too long to be timed; for models that read pixels with
clips of 64 to 96 pixels.
"""

from models.registry import SIGNALS, TOKENS, VIDEO, Model, add

CLASSIFIER = "models.classifier.classifier:build_classifier"


def _classifier(name: str, needs: frozenset[str], **more: object) -> Model:
    return Model(name=name, make=CLASSIFIER, needs=needs, family="classifier", given={"name": name}, **more)  # type: ignore


def _network(name: str, make: str, needs: frozenset[str], **more: object) -> Model:
    return Model(name=name, make=f"models.baselines.{make}", needs=needs, family="network", **more)  # type: ignore


def _estimator(name: str, make: str, **more: object) -> Model:
    return Model(name=name, make=f"models.baselines.estimators:{make}", needs=SIGNALS, family="estimator", **more)  # type: ignore


BUILT_IN = (
    _classifier("dual", TOKENS | SIGNALS, signal_encoder="step", share=0.17, paper="Fig. 7, Table 4",
                about="video tokens and signals: HPA on each stream, DCAN fusion"),
    _classifier("video", TOKENS, share=0.11, paper="Tables 5 to 8", about="the video stream only"),
    _classifier("signal", SIGNALS, signal_encoder="step", share=0.14, paper="Tables 5 to 8", about="the signal stream only"),
    _classifier("signal_small", SIGNALS, signal_encoder="conv", share=0.7,
                about="the signal stream on strided-convolution tokens, for short windows of wearables"),
    _network("lstm", "signal_nets:LSTMFCN", SIGNALS, share=0.64, recurrent=True, paper="Tables 7 and 8",
             about="a bidirectional LSTM in parallel with three convolutions"),
    _network("transformer", "signal_nets:SignalTransformer", SIGNALS, share=0.013, paper="Tables 7 and 8",
             about="a transformer block over the time steps of the signal"),
    _network("convtran", "signal_nets:ConvTran", SIGNALS, share=0.06, paper="Tables 7 and 8",
             about="convolutional embedding, tAPE and eRPE on the raw signals"),
    _network("resnet3d", "video_nets:ResNet3D", VIDEO, share=0.7, paper="Tables 7 and 8",
             about="R3D-18 on the pixels of a clip"),
    _network("vit3d", "video_nets:ViT3D", VIDEO, share=0.85, paper="Tables 7 and 8",
             about="a vision transformer over tubelets"),
    _network("vgg_rnn", "video_nets:VGGRNN", VIDEO, share=0.5, paper="Tables 7 and 8", about="VGG-16 per frame, then an LSTM"),
    _network("e2e_mer", "fusion_nets:E2EMER", VIDEO | SIGNALS, share=0.6, recurrent=True, paper="Tables 7 and 8",
             about="end-to-end fusion of pixels and signals"),
    _network("mte_mer", "fusion_nets:MTEMER", VIDEO | SIGNALS, share=0.5, recurrent=True, paper="Tables 7 and 8",
             about="the same, with an embedding per class"),
    _estimator("random_forest", "RandomForest", paper="compare Table 9", about="random forest on statistics of each window"),
    _estimator("svm", "GaussianSVM", paper="compare Table 9", about="SVM with RBF kernel on statistics of each window"),
    _estimator("ridge", "RidgeLeastSquares", paper="compare Table 9", about="ridge classifier on statistics of each window"),
    _estimator("one_number", "OneNumber", about="negative control: one number per clip, e.g. its duration or trial order"),
)
for _model in BUILT_IN:
    add(_model)

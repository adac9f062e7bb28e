"""A model of your own: linear discriminant analysis on the statistics of each channel's window.

Give this file with --plugin, then choose model=lda; model.shrinkage=0.1 is its option. The whole command: examples/README.md.
"""

from typing import Annotated

from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.baselines.estimators import OnWindowStatistics
from models.registry import SIGNALS, Bounds, register

Share = Annotated[float, Bounds("of the covariance, towards its diagonal", least=0, most=1)]


@register(name="lda", needs=SIGNALS, family="estimator", about="linear discriminant analysis of the window's statistics")
def lda(n_classes: int, seed: int = 0, shrinkage: Share = 0.5):
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    return OnWindowStatistics(make_pipeline(StandardScaler(), analysis), n_classes, seed)

from .classifier import BayesianMLPClassifier as BayesianMLPClassifier
from .regressor import BayesianMLPRegressor as BayesianMLPRegressor
from .scorer import log_density_scorer as log_density_scorer

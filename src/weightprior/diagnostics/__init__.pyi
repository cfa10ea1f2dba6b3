from .align import align as align
from .contraction import contraction as contraction
from .convergence import convergence as convergence
from .effective_parameters import effective_parameters as effective_parameters
from .prior_data_conflict import prior_data_conflict as prior_data_conflict
from .prior_sensitivity import prior_sensitivity as prior_sensitivity

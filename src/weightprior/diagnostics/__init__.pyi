from .align import align as align
from .configurational_temperature import (
    configurational_temperature as configurational_temperature,
)
from .contraction import contraction as contraction
from .convergence import convergence as convergence
from .effective_parameters import effective_parameters as effective_parameters
from .nonlinearity import nonlinearity as nonlinearity
from .prior_data_conflict import prior_data_conflict as prior_data_conflict
from .prior_sensitivity import prior_sensitivity as prior_sensitivity
from .saturation import saturation as saturation
from .unit_ablation import unit_ablation as unit_ablation

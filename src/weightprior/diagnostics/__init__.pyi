from .align import align as align
from .contraction import contraction as contraction
from .convergence import convergence as convergence
from .effective_parameters import effective_parameters as effective_parameters

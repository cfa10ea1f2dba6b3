from .align import align as align
from .convergence import convergence as convergence
from .effective_parameters import effective_parameters as effective_parameters

from .convergence import convergence as convergence

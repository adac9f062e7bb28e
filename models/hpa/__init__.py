"""The hybrid positional attention block (paper, Fig. 7 and Algorithm 1): embedding, tAPE, eRPE."""

from models.hpa.block import HPA

__all__ = ["HPA"]

"""BatchNorm over the batch of all data-parallel workers, for machines without CUDA (torch's SyncBatchNorm needs a GPU).

Shapes: R rows, D width, L steps.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SumOverWorkers(torch.autograd.Function):
    """y = sum over workers of x. Every worker's loss depends on every worker's x: backward sums their gradients too."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[override]
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d of (R,D) or (R,D,L) whose training statistics are those of all workers, with gradients through them.

    With DDP's averaged gradients this equals BatchNorm of one worker over the whole batch. The state dict is that of
    BatchNorm1d; with one worker, or in evaluation, it is BatchNorm1d. All workers must call it equally often.
    """

    def forward(self, x: Tensor) -> Tensor:
        shared = self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not shared:
            return super().forward(x)
        if x.ndim == 2:
            return self._over_workers(x)
        x_RLD = x.transpose(1, 2)
        return self._over_workers(x_RLD.flatten(0, 1)).view(x_RLD.shape).transpose(1, 2)

    def _over_workers(self, x_RD: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        with torch.autocast(x_RD.device.type, enabled=False):
            x = x_RD.float()
            # relative to the running mean, which is equal on all workers: squares of values far from zero would lose precision
            origin = self.running_mean.clone()
            near = x - origin
            count = near.new_full((1,), len(near))
            total = SumOverWorkers.apply(torch.cat([count, near.sum(0), near.square().sum(0)]))
            n, width = total[0].detach(), near.shape[1]
            shift = total[1 : 1 + width] / n
            variance = (total[1 + width :] / n - shift.square()).clamp_min(0)
            with torch.no_grad():
                self.num_batches_tracked += 1
                assert self.momentum is not None
                self.running_mean.lerp_(origin + shift, self.momentum)
                self.running_var.lerp_(variance * n / (n - 1), self.momentum)
            y = (near - shift) * (variance + self.eps).rsqrt()
            return (y * self.weight + self.bias).to(x_RD.dtype)


def batch_norm(world: int, cuda: bool) -> type[nn.Module]:
    """The batch-norm class of a network that `world` workers train together."""
    if world == 1:
        return nn.BatchNorm1d
    return nn.SyncBatchNorm if cuda else SharedBatchNorm

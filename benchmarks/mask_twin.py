"""torchvision's Mask R-CNN made of our network's parts: the same arithmetic, in its own code.

R RoIs, K classes.
"""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from benchmarks.twin import NEVER, Head, Predictor, copy_conv
from mask_rcnn.network import MaskRCNN
from stages.backbones.frozen_norm import set_norms_down


def mask_twin_of(ours: MaskRCNN) -> TorchvisionMaskRCNN:
    """The same network and options over a pyramid, all of it copied, with batch norms as torchvision's.

    Of images that are at the test scale already its detections are ours, if ours takes anchors and
    RoIs as torchvision does: `AnchorConfig.as_torchvision`, `centre` 0, `PoolConfig.half_pixel` False,
    `MaskDetectionConfig.rounded`.
    """
    assert ours.mask_head is not None
    backbone = copy.deepcopy(ours.backbone)
    set_norms_down(backbone)
    rpn, labels = ours.rpn, ours.rpn.config.labels
    proposals, training, detection = ours.proposals, ours.train_proposals, ours.detection
    levels = [str(number) for number in range(len(rpn.strides))]
    ratios = (rpn.config.anchors.ratios,) * len(levels)
    anchors = AnchorGenerator(tuple((size,) for size in rpn.config.anchors.sizes), ratios)
    head = RPNHead(backbone.channels, len(rpn.config.anchors.ratios))
    head.conv[0][0] = copy_conv(rpn.conv)
    head.cls_logits, head.bbox_pred = copy_conv(rpn.scores), copy_conv(rpn.offsets)
    pool = ours.mask_pool.config
    twin = TorchvisionMaskRCNN(
        _Maps(backbone.trunk, backbone.channels, levels),
        min_size=ours.scale.test[0],
        max_size=ours.scale.longest,
        image_mean=backbone.mean.flatten().tolist(),
        image_std=backbone.std.flatten().tolist(),
        rpn_anchor_generator=anchors,
        rpn_head=head,
        rpn_pre_nms_top_n_train=training.before or NEVER,
        rpn_pre_nms_top_n_test=proposals.before or NEVER,
        rpn_post_nms_top_n_train=training.after,
        rpn_post_nms_top_n_test=proposals.after,
        rpn_nms_thresh=proposals.nms_iou,
        rpn_fg_iou_thresh=labels.positive_iou,
        rpn_bg_iou_thresh=labels.negative_iou,
        rpn_batch_size_per_image=labels.anchors,
        rpn_positive_fraction=labels.positive_fraction,
        box_roi_pool=MultiScaleRoIAlign(levels[:-1], ours.backbone.roi_size, pool.points),
        box_head=Head(backbone),
        box_predictor=Predictor(ours),
        box_score_thresh=detection.least_score,
        box_nms_thresh=detection.nms_iou,
        box_detections_per_img=detection.per_image or NEVER,
        box_fg_iou_thresh=ours.sampling.positive_iou,
        box_bg_iou_thresh=ours.sampling.positive_iou,
        box_batch_size_per_image=ours.sampling.rois,
        box_positive_fraction=ours.sampling.positive_fraction,
        bbox_reg_weights=(1.0, 1.0, 1.0, 1.0),
        mask_roi_pool=MultiScaleRoIAlign(levels[:-1], ours.mask_pool.side, pool.points),
        mask_head=copy.deepcopy(ours.mask_head.features),
        mask_predictor=_MaskPredictor(ours),
    )
    twin.rpn.min_size = proposals.least_side
    return twin


class _Maps(nn.Module):
    def __init__(self, trunk: nn.Module, channels: int, levels: list[str]) -> None:
        super().__init__()
        self.trunk, self.out_channels, self.levels = trunk, channels, levels

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return OrderedDict(zip(self.levels, self.trunk(pixels), strict=True))


class _MaskPredictor(nn.Module):
    """Our 1x1 convolution; torchvision has a mask for the background, too, which nobody looks at."""

    def __init__(self, ours: MaskRCNN) -> None:
        super().__init__()
        assert ours.mask_head is not None
        weight = ours.mask_head.logits.get_parameter("weight")
        bias = ours.mask_head.logits.get_parameter("bias")
        self.logits = nn.Conv2d(weight.shape[1], len(weight) + 1, 1)
        with torch.no_grad():
            self.logits.weight[0], self.logits.bias[0] = 0, 0  # type: ignore[index]
            self.logits.weight[1:], self.logits.bias[1:] = weight, bias  # type: ignore[index]

    def forward(self, maps: Tensor) -> Tensor:
        """[R, C, m, m] -> [R, K + 1, m, m]."""
        return self.logits(maps)  # type: ignore[no-any-return]

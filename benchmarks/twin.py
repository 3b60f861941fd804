"""torchvision's Faster R-CNN made of our network's parts: the same arithmetic, in its own code.

R RoIs, K classes, D features.
"""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import roi_pool

from faster_rcnn.network import FasterRCNN
from stages.backbones.backbone import Backbone
from stages.backbones.frozen_norm import set_norms_down
from stages.roi_pool import place

NEVER = 10**9


def twin_of(ours: FasterRCNN) -> TorchvisionFasterRCNN:
    """The same network and options, all of it copied, with batch norms of their own as torchvision's.

    Of images that are at the test scale already its detections are ours, but where small boxes are among
    more than `ProposalConfig.before`: torchvision drops them after it has chosen the best, and then has
    fewer candidates. Its anchors' grid begins at the image's corner, so `AnchorConfig.centre` must be 0.
    """
    backbone = copy.deepcopy(ours.backbone)
    set_norms_down(backbone)
    rpn, labels = ours.rpn, ours.rpn.config.labels
    proposals, training, detection = ours.proposals, ours.train_proposals, ours.detection
    anchors = AnchorGenerator((rpn.config.anchors.sizes,), (rpn.config.anchors.ratios,))
    anchors.cell_anchors = [rpn.get_buffer("base0").clone()]  # its own are rounded
    head = RPNHead(backbone.channels, len(anchors.cell_anchors[0]))
    head.conv[0][0] = copy_conv(rpn.conv)
    head.cls_logits, head.bbox_pred = copy_conv(rpn.scores), copy_conv(rpn.offsets)
    twin = TorchvisionFasterRCNN(
        _Trunk(backbone),
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
        box_head=Head(backbone),
        box_predictor=Predictor(ours),
        box_score_thresh=0.0,
        box_nms_thresh=detection.nms_iou,
        box_detections_per_img=NEVER,
        box_fg_iou_thresh=ours.sampling.positive_iou,
        box_bg_iou_thresh=ours.sampling.positive_iou,
        box_batch_size_per_image=ours.sampling.rois,
        box_positive_fraction=ours.sampling.positive_fraction,
        bbox_reg_weights=(1.0, 1.0, 1.0, 1.0),
    )
    # Its constructor takes its own pooling only.
    twin.roi_heads.box_roi_pool = _Pool(backbone)
    twin.rpn.min_size = proposals.least_side
    return twin


def copy_conv(layer: nn.Conv2d) -> nn.Conv2d:
    """A convolution of the same weights, stride 1, that keeps a map's size."""
    side = layer.kernel_size[0]
    copy = nn.Conv2d(layer.in_channels, layer.out_channels, side, padding=side // 2)
    copy.load_state_dict(layer.state_dict())
    return copy


class _Trunk(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.trunk, self.out_channels = backbone.trunk, backbone.channels

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return OrderedDict({"0": self.trunk(pixels)})


class _Pool(nn.Module):
    """RoI pooling from the one map; torchvision's own operator, which knows no bfloat16."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.side, self.stride = backbone.roi_size, backbone.stride
        self.shift = backbone.shift

    def forward(
        self, maps: dict[str, Tensor], rois: list[Tensor], _: list[tuple[int, int]]
    ) -> Tensor:
        dtype = maps["0"].dtype
        wide = maps["0"].float() if dtype == torch.bfloat16 else maps["0"]
        boxes = [place(of_image.to(wide.dtype), self.shift) for of_image in rois]
        return roi_pool(wide, boxes, self.side, 1 / self.stride).to(dtype)


class Head(nn.Module):
    """Our box head."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.head = backbone.head

    def forward(self, pooled: Tensor) -> Tensor:
        return self.head(pooled)  # type: ignore[no-any-return]


class Predictor(nn.Module):
    """Ours, its offsets in torchvision's layout: background has some too, which nobody asks for."""

    def __init__(self, ours: FasterRCNN) -> None:
        super().__init__()
        inner = ours.predictor
        features, classes = inner.scores.in_features, len(ours.classes)
        self.scores = nn.Linear(features, classes + 1)
        self.offsets = nn.Linear(features, 4 * (classes + 1))
        self.scores.load_state_dict(inner.scores.state_dict())
        with torch.no_grad():
            self.offsets.weight[:4], self.offsets.bias[:4] = 0, 0
            self.offsets.weight[4:] = inner.offsets.weight
            self.offsets.bias[4:] = inner.offsets.bias

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[R, D] -> scores [R, K + 1], offsets [R, 4 (K + 1)]."""
        return self.scores(features), self.offsets(features)

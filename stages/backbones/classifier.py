"""A backbone under a linear layer of class scores: pre-training's model, and R-CNN's fine-tuning."""

from __future__ import annotations

from torch import Tensor, nn

from stages.backbones.backbone import Backbone


class Classifier(nn.Module):
    """Scores of normalised crops [N, 3, S, S]: [N, classes], before the softmax."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.scores = nn.Linear(backbone.features, classes)
        # As the papers initialise every new layer of scores (Fast R-CNN, section 2.3).
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.zeros_(self.scores.bias)

    def forward(self, crops: Tensor) -> Tensor:
        return self.scores(self.backbone(crops))  # type: ignore[no-any-return]

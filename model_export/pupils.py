"""What is trained: a network with the heads that it has in training only, and a batch's loss."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from model_export.dataset import Batch
from model_export.experiment import Experiment
from model_export.glrf import Glrf
from model_export.losses import head_k_pooling_loss, segment_cross_entropy
from model_export.mixup import draw
from model_export.teacher import Lesson
from model_export.teacher_frames import TeacherFrames
from ser_core.errors import BadParameter
from ser_core.labels import NEUTRAL

#: Of the earlier blocks' errors in telling frames, beside the last one's.
_EARLIER: float = 0.3


class Classifying(nn.Module):
    """Learns labels and, where the experiment distils, what a teacher says of the utterances.

    A batch to its loss. The embedding is told by a linear layer that is thrown away after training.
    Raises `BadParameter` for an experiment that distils without a lesson, with a loss that takes no
    posteriors, or with a network that has no embedding to tell from.
    """

    def __init__(self, network: nn.Module, experiment: Experiment, lesson: Lesson | None) -> None:
        super().__init__()
        self.network = network
        self._experiment, self._lesson = experiment, lesson
        self.tell: nn.Linear | None = None
        if _tells_embedding(experiment, lesson) and isinstance(network, Glrf):
            assert lesson is not None
            self.tell = nn.Linear(network.score.in_features, lesson.embeddings.shape[1])

    def forward(self, batch: Batch) -> Tensor:
        config, distil = self._experiment.loss, self._experiment.distillation
        labels, lesson = self._experiment.labels, self._lesson
        mixture = draw(self._experiment.mixup, len(batch.labels), batch.features.device)
        mix = None if mixture is None else partial(mixture.of_segments, n_segments=batch.n_segments)
        if isinstance(self.network, Glrf):
            embedded = self.network.embed(batch.features, mix)
            logits = self.network.decide(embedded)
        else:
            embedded, logits = None, self.network(batch.features)
        if config.kind == "cross-entropy":
            loss = segment_cross_entropy(
                logits, batch.n_segments, batch.labels, label_smoothing=config.label_smoothing
            )
        else:
            loss = head_k_pooling_loss(
                logits,
                batch.n_segments,
                batch.labels,
                neutral=labels.index(NEUTRAL) if NEUTRAL in labels else None,
                k=config.k,
                negative_sampling=config.negative_sampling,
                label_smoothing=config.label_smoothing,
                posteriors=(
                    lesson.posteriors[batch.drawn.cpu()].to(logits.device)
                    if lesson is not None and distil.posterior
                    else None
                ),
                posterior_share=distil.posterior,
                mixture=mixture,
            )
        if self.tell is None or lesson is None or embedded is None:
            return loss
        taught = lesson.embeddings[batch.drawn.cpu()].to(logits.device)
        if mixture is not None:
            taught = mixture.of_utterances(taught)
        told = self.tell(embedded)
        return loss + distil.embedding * functional.mse_loss(told, taught[batch.utterance])


def _tells_embedding(experiment: Experiment, lesson: Lesson | None) -> bool:
    distil, name = experiment.distillation, experiment.name
    if not distil.posterior and not distil.embedding:
        return False
    if lesson is None:
        raise BadParameter(f"{name} learns from a teacher", remedy="give --teacher")
    if distil.posterior and experiment.loss.kind == "cross-entropy":
        raise BadParameter(
            f"{name}: cross-entropy learns from no posteriors",
            remedy="leave out distillation.posterior, or take loss.kind head-k",
        )
    if not distil.embedding:
        return False
    if experiment.network.kind != "glrf":
        raise BadParameter(
            f"{name}: a {experiment.network.kind} tells no embedding",
            remedy="leave out distillation.embedding",
        )
    return True


class TellingFrames(nn.Module):
    """Learns to tell a teacher's frames of the same moment from each block's frames, and no label.

    Hints, as of FitNets (Romero et al., 2015), for every frame in the place of the utterance. What
    a block's frame spans is told as the mean of the teacher's. Each block has a linear layer that
    is thrown away after training. A batch to its loss: the mean squared error of the last block,
    and of the earlier ones a share.
    """

    def __init__(self, network: Glrf, frames: TeacherFrames) -> None:
        super().__init__()
        self.network = network
        network.score.requires_grad_(False)  # hears nothing here
        self._frames = frames
        self._frame_pool = network.normalise.frame_pool
        self.tell = nn.ModuleList(
            nn.Linear(network.channels, frames.frames.shape[1]) for _ in network.blocks
        )

    def forward(self, batch: Batch) -> Tensor:
        seconds = functional.avg_pool1d(batch.seconds[:, None], self._frame_pool)[:, 0]
        recording = batch.drawn[batch.utterance]
        taught = self._frames.at(recording, seconds).transpose(1, 2)  # (S, d, T)
        given = self.network.blocks_of(batch.features)
        loss = batch.features.new_zeros(())
        for index, (frames, tell) in enumerate(zip(given, self.tell, strict=True)):
            if index:
                taught = functional.avg_pool1d(taught, 2)
            error = functional.mse_loss(tell(frames.transpose(1, 2)), taught.transpose(1, 2))
            loss = loss + error * (1.0 if index == len(given) - 1 else _EARLIER)
        return loss

"""What ranks the units that pruning may remove: by pattern, the criteria that suit it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.params.section import Section


class Random(Section):
    method: Literal["random"]


class L1(Section):
    method: Literal["l1"]


class L2(Section):
    method: Literal["l2"]


class BnScale(Section):
    method: Literal["bn_scale"]


class Taylor(Section):
    method: Literal["taylor"]


class Fpgm(Section):
    method: Literal["fpgm"]


class Lamp(Section):
    method: Literal["lamp"]


class Wanda(Section):
    method: Literal["wanda"]


class SparseGpt(Section):
    method: Literal["sparsegpt"]


Criterion = Annotated[
    Random | L1 | L2 | BnScale | Taylor | Fpgm | Lamp | Wanda | SparseGpt, Field(discriminator="method")
]
ChannelCriterion = Annotated[Random | L1 | L2 | BnScale | Taylor | Fpgm, Field(discriminator="method")]
HeadCriterion = Annotated[Random | L1 | L2 | Taylor | Fpgm, Field(discriminator="method")]
WeightCriterion = Annotated[Random | L1 | L2 | Taylor | Lamp | Wanda | SparseGpt, Field(discriminator="method")]

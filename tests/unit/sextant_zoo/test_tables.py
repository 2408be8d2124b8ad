"""Columns of tables: a category is looked up, a number is seen by itself, and what does not fit is refused."""

from __future__ import annotations

import pytest
import torch

from sextant_zoo import build
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.ft_transformer import Columns
from sextant_zoo.tables import TableInput, spans

COLUMNS = [0, 3, 0, 1]
ROW = torch.tensor([[0.5, 0.0, 1.0, 0.0, -2.0, 1.0]])


def test_features_of_a_column_stand_together() -> None:
    assert spans(COLUMNS) == [(0, 1), (1, 4), (4, 5), (5, 6)]


def test_a_category_is_one_token_with_the_vector_of_its_value() -> None:
    block = Columns(COLUMNS, 4)
    tokens = block(ROW)
    assert tokens.shape == (1, 5, 4)
    torch.testing.assert_close(tokens[0, 2], block.weight[2] + block.bias[1])
    torch.testing.assert_close(tokens[0, 3], -2 * block.weight[4] + block.bias[2])


def test_numbers_are_embedded_each_by_itself_and_other_features_stay() -> None:
    torch.manual_seed(0)  # with some weights all is zero behind ReLU
    table = TableInput(COLUMNS, frequencies=3, width=2, scale=1.0)
    assert table.width == 2 * 2 + 4
    seen = table(ROW)
    assert seen.shape == (1, 8)
    assert seen[0, 4:].tolist() == [0.0, 1.0, 0.0, 1.0]
    other = ROW.clone()
    other[0, 0] = 3.0
    changed = table(other)
    assert not torch.equal(changed[0, :2], seen[0, :2])
    assert torch.equal(changed[0, 2:], seen[0, 2:])
    # What is not trained is no part of a checkpoint.
    assert sorted(table.state_dict()) == ["embedding.bias", "embedding.frequencies", "embedding.weight"]


def test_a_table_without_numbers_has_nothing_to_embed() -> None:
    table = TableInput([2, 1], frequencies=3, width=2, scale=1.0)
    assert torch.equal(table(ROW[:, 1:4]), ROW[:, 1:4])


@pytest.mark.parametrize(("zoo", "config"), [("mlp", {"frequencies": 4}), ("ft-transformer", {})])
def test_columns_that_are_not_those_of_the_inputs_are_refused(zoo: str, config: dict[str, object]) -> None:
    assert build(zoo, {**config, "columns": COLUMNS}, (6,), 2)(ROW).shape == (1, 2)
    with pytest.raises(UnknownModelError, match="6 features together") as caught:
        build(zoo, {**config, "columns": COLUMNS}, (7,), 2)
    assert caught.value.field == "model.config.columns"

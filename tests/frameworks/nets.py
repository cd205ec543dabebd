"""Networks of PyTorch, as somebody's own code has them."""

import torch
from torch import nn


class Net(nn.Module):
    """Two layers, and what stands behind them."""

    def __init__(self, input_dim: int, hidden: int = 8, outputs: int = 1, last: nn.Module | None = None) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(input_dim, hidden), nn.Linear(hidden, outputs)
        self.last = last or nn.Identity()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.last(self.out(torch.relu(self.hidden(rows))))


class Flat(Net):
    """A value a row, [N], as `squeeze` makes it."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows).squeeze()


def regular(input_dim: int, outputs: int = 1, last: nn.Module | None = None) -> nn.Module:
    """What answers otherwise while it trains."""
    layers = [nn.Linear(input_dim, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.5), nn.Linear(16, outputs)]
    return nn.Sequential(*layers, *([last] if last else []))


class Residual(nn.Module):
    """Layers of many kinds, with a way around them."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.LayerNorm(input_dim), nn.Linear(input_dim, input_dim), nn.SiLU())
        self.out = nn.Sequential(nn.Linear(input_dim, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1), nn.Softplus())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.out(rows + self.inside(rows.clamp(-100, 100)))


class Piecewise(nn.Module):
    """A step, and what is missing is 0."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.out = nn.Linear(input_dim, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        rows = torch.nan_to_num(rows)
        return torch.where(rows[:, :1] > 0.25, self.out(rows), -self.out(rows))


class Recurrent(nn.Module):
    """Columns one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.LSTM(1, 6, batch_first=True), nn.Linear(6, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.out(self.inside(rows.unsqueeze(2))[0][:, -1])


class Attending(nn.Module):
    """Columns that look at each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(1, 8), nn.Linear(8, 2)
        self.inside = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.out(self.inside(self.first(rows.unsqueeze(2))).mean(1)), -1)


class Branching(Net):
    """What it does with rows far out is a matter of its code."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows if rows.abs().max() < 1e3 else -rows)


class InFours(Net):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows).reshape(4, -1).reshape(-1, 1)


class OfAll(Net):
    """What it says of a row depends on the others."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        scores = super().forward(rows)
        return scores - scores.mean(dim=0)


class Looking(nn.Module):
    """A column is a position in a table of two rows."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.table(rows[:, 0].long())


class Shelf(nn.Module):
    """A column is a position in a long table, and rows far out are beyond it."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(10_000, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.table(rows[:, 0].long().abs())


class Scaled(Net):
    def forward(self, rows: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return super().forward(rows) * scale


class Pair(Net):
    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(rows), rows


def not_a_module(input_dim: int) -> int:
    return input_dim

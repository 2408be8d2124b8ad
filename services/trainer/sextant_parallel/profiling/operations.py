"""Records the operations of a forward pass: shapes of products, bytes moved, bytes saved, and in which module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ATTENTION = "scaled_dot_product"
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix product; `count` over 0 for batched ones, which have no parameter."""

    module: str
    rows: int
    columns: int
    inner: int
    count: int = 0


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What happens inside of `within`. Storages in `known` do not count as saved, and new ones are added to it.

    `known` holds the tensors too: a storage that was let go would leave its number to another.
    """

    def __init__(self, known: dict[int, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = known
        self._path: list[str] = []
        self.products: list[Product] = []
        self.others = 0
        self.traffic = 0
        self.key_bytes = 0
        self.saved_bytes = 0
        self.fused_attention = False
        self._traffic: Counter[str] = Counter()
        self._saved: Counter[str] = Counter()
        self._inputs: dict[str, tuple[int, int]] = {}
        self._outputs: dict[str, int] = {}

    @contextmanager
    def within(self, block: nn.Module) -> Iterator[None]:
        """Record what happens in here, by the submodules of `block`."""
        with ExitStack() as stack:
            for name, module in block.named_modules():
                if name:
                    stack.callback(module.register_forward_pre_hook(self._enter(name)).remove)
                    stack.callback(module.register_forward_hook(self._leave(name), always_call=True).remove)
            stack.enter_context(saved_tensors_hooks(self._save, lambda tensor: tensor))
            stack.enter_context(self)
            yield

    def traffic_under(self, module: str) -> int:
        """Bytes moved by operations that are no products, in a submodule and below it."""
        return _under(self._traffic, module)

    def saved_under(self, module: str) -> int:
        """Bytes saved for the backward pass in a submodule and below it."""
        return _under(self._saved, module)

    def input_of(self, module: str) -> tuple[int, int]:
        """The identity and the bytes of a submodule's input."""
        return self._inputs.get(module, (0, 0))

    def output_bytes_of(self, module: str) -> int:
        """Bytes of a submodule's output."""
        return self._outputs.get(module, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and write it down."""
        out = func(*args, **(kwargs or {}))
        name = func.name().split("::")[-1].split(".")[0]
        if name.endswith("_") or not _is_view(args, out):
            self._note(name, _named(func, args, kwargs or {}), out)
        return out

    def _note(self, name: str, given: dict[str, Any], out: Any) -> None:
        args = tuple(given.values())
        module = self._path[-1] if self._path else ""
        if name in PRODUCTS:
            self._note_product(name, module, args)
        elif name == "convolution":
            weight = args[1]
            rows = out.shape[0] * prod(out.shape[2:])
            self.products.append(Product(module, rows, weight.shape[0], prod(weight.shape[1:])))
        elif ATTENTION in name:
            self._note_attention(module, args, causal=bool(given.get("is_causal")))
        else:
            moved = sum(bytes_of(t) for t in tree_leaves((args, out)) if isinstance(t, Tensor))
            self.traffic += moved
            self._traffic[module] += moved
            self.others += 1

    def _note_product(self, name: str, module: str, args: Any) -> None:
        left, right = args[-2:] if name.startswith(("add", "badd")) else args[:2]
        count = left.shape[0] if left.dim() == 3 else 0
        rows, inner, columns = left.shape[-2], left.shape[-1], right.shape[-1]
        self.products.append(Product(module, rows, columns, inner, count))

    def _note_attention(self, module: str, args: Any, *, causal: bool) -> None:
        q, k, v = args[:3]
        count, rows, width, keys = q.shape[0] * q.shape[1], q.shape[2], q.shape[3], k.shape[2]
        # Fused kernels skip what a causal mask hides: the first query sees one key, the last one all of them.
        seen = (keys + 1) // 2 if causal else keys
        self.products.append(Product(module, rows, seen, width, count))
        self.products.append(Product(module, rows, v.shape[3], seen, count))
        self.fused_attention = True
        self.key_bytes += bytes_of(k) + bytes_of(v)

    def _save(self, tensor: Tensor) -> Tensor:
        storage = storage_of(tensor)
        if storage not in self._known:
            self._known[storage] = tensor
            size = tensor.untyped_storage().nbytes()
            self.saved_bytes += size
            self._saved[self._path[-1] if self._path else ""] += size
        return tensor

    def _enter(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            self._path.append(name)
            if arguments and isinstance(arguments[0], Tensor):
                given = arguments[0]
                self._inputs[name] = (storage_of(given), bytes_of(given))

        return hook

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], out: Any) -> None:
            self._path.pop()
            self._outputs[name] = sum(bytes_of(t) for t in tree_leaves(out) if isinstance(t, Tensor))

        return hook


def _under(counted: Counter[str], module: str) -> int:
    return sum(count for name, count in counted.items() if name == module or name.startswith(f"{module}."))


def _named(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """An operation's arguments by the names of its schema, in its order."""
    names = [argument.name for argument in func._schema.arguments]  # noqa: SLF001 - torch has no other way to ask
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _is_view(arguments: Any, out: Any) -> bool:
    """Whether an operation only looks at its input in another way."""
    given = {storage_of(t) for t in tree_leaves(arguments) if isinstance(t, Tensor)}
    return all(storage_of(t) in given for t in tree_leaves(out) if isinstance(t, Tensor))


def storage_of(tensor: Tensor) -> int:
    """What tensors that share their memory have in common."""
    return int(StorageWeakRef(tensor.untyped_storage()).cdata)  # type: ignore[no-untyped-call]


def bytes_of(tensor: Tensor) -> int:
    """Of its numbers."""
    return tensor.numel() * tensor.element_size()

"""What ncnn is told of the networks: the layers of each task, read off the network itself."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator

import torch
from torch import fx, nn
from torch.nn import functional

from imgflow.engines.networks.eraser import Eraser, Fill, Find, Restore
from imgflow.engines.networks.upscaler import SCALES, Detail, SuperResolver
from imgflow.engines.running import INPUT, OUTPUT

# What a file of layers begins with.
_MAGIC = 7767517
# ncnn's numbers for what is computed of two: of two results, or of a result and then a number; and
# of a number first.
_OF_TWO: dict[object, tuple[int, int]] = {
    operator.add: (0, 0),
    operator.sub: (1, 7),
    operator.mul: (2, 2),
    operator.truediv: (3, 8),
    "add_": (0, 0),
}
_LOGARITHM = 8
# What only says how numbers are held.
_FORMAL: tuple[object, ...] = (getattr, "to", "float")


def tasks() -> Iterator[tuple[str, nn.Module]]:
    """All tasks of the shipped networks, by their names. The networks are new."""
    upscaler, eraser = SuperResolver(), Eraser()
    for scale in SCALES:
        yield f"upscaler-x{scale}", Detail(upscaler, scale)
    yield "eraser-find", Find(eraser)
    yield "eraser-fill", Fill(eraser)
    yield "eraser-restore", Restore(eraser)


def layers(task: nn.Module) -> str:
    """The text of ncnn's file of layers for a task, a module around one `network`. A convolution
    is called what it is called in the network.

    Raises TypeError for anything that there is no rule for here.
    """
    lines = _Lines()
    traced = fx.symbolic_trace(task)
    for node in traced.graph.nodes:
        if not _formal(node):
            lines.uses.update(_source(each) for each in _inputs(node))
    for node in traced.graph.nodes:
        if not _formal(node):
            lines.add(node, traced)
    return lines.text()


class _Lines:
    """Lines of layers. What a layer makes has a name for each of its uses."""

    def __init__(self) -> None:
        self.uses: Counter[fx.Node] = Counter()
        self._lines: list[str] = []
        self._made = 0
        self._names: dict[fx.Node, list[str]] = {}

    def text(self) -> str:
        return "\n".join([str(_MAGIC), f"{len(self._lines)} {self._made}", *self._lines, ""])

    def add(self, node: fx.Node, traced: fx.GraphModule) -> None:
        if node in self._names:  # was made together with another
            return
        match node.op:
            case "placeholder":
                self._layer("Input", INPUT, node, made=INPUT)
            case "call_module":
                layer = traced.get_submodule(str(node.target))
                self._convolution(str(node.target).removeprefix("network."), layer, node)
            case "call_function" | "call_method":
                self._operation(node)
            case "output":
                (last,) = self._names[_source(_inputs(node)[0])]
                self._write("Noop", OUTPUT, [last], [OUTPUT])

    def _convolution(self, name: str, layer: nn.Module, node: fx.Node) -> None:
        if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or layer.bias is None:
            raise TypeError(f"there is no rule for {layer}")
        side, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
        settings = [
            f"0={layer.out_channels} 1={side} 3={stride} 4={padding} 5=1",
            f"6={layer.weight.numel()}",
        ]
        (*others, user) = node.users
        if not others and user.target is functional.relu:
            settings.append("9=1")
            self._layer("Convolution", name, node, *settings, result=user)
        else:
            self._layer("Convolution", name, node, *settings)

    def _operation(self, node: fx.Node) -> None:
        _, *others = node.args
        if node.target in _OF_TWO:
            self._of_two(node)
        elif node.target is torch.split:
            self._split(node)
        elif node.target is torch.cat:
            self._layer("Concat", node.name, node, "0=0")
        elif node.target is functional.pixel_shuffle:
            self._layer("PixelShuffle", node.name, node, f"0={others[0]}")
        elif node.target is functional.pixel_unshuffle:
            self._layer("Reorg", node.name, node, f"0={others[0]}")
        elif node.target == "softmax":
            self._layer("Softmax", node.name, node, "0=0 1=1")
        elif node.target is torch.sigmoid:
            self._layer("Sigmoid", node.name, node)
        elif node.target == "clamp":
            limits = {**dict(zip(("min", "max"), others, strict=False)), **node.kwargs}
            said = {"min": "0", "max": "1"}
            self._layer("Clip", node.name, node, *(f"{said[k]}={v}" for k, v in limits.items()))
        elif node.target is torch.logit:
            self._logit(node, float(str(others[0])))
        else:
            raise TypeError(f"there is no rule for {node.target}")

    def _of_two(self, node: fx.Node) -> None:
        numbers = [each for each in node.args if not isinstance(each, fx.Node)]
        number_first = not isinstance(node.args[0], fx.Node)
        operation = f"0={_OF_TWO[node.target][number_first]}"
        settings = [f"1=1 2={number}" for number in numbers]
        self._layer("BinaryOp", node.name, node, operation, *settings)

    def _split(self, node: fx.Node) -> None:
        sizes = [int(str(each)) for each in node.args[1]]  # type: ignore[union-attr]
        names = [f"{node.name}.{number}" for number in range(len(sizes))]
        said = ",".join(map(str, [len(sizes), *sizes]))
        seen = self._use(_inputs(node)[0])
        self._write("Slice", node.name, [seen], names, f"-23300={said} 1=0")
        for part in node.users:
            self._result(part, names[int(str(part.args[1]))])

    def _logit(self, node: fx.Node, least: float) -> None:
        """log(x / (1 - x)) of x at least so far from 0 and from 1."""
        name = node.name
        seen = self._use(_inputs(node)[0])
        self._write("Clip", f"{name}.clip", [seen], [f"{name}.x"], f"0={least} 1={1 - least}")
        self._write("Split", f"{name}.split", [f"{name}.x"], [f"{name}.y", f"{name}.z"])
        self._write("BinaryOp", f"{name}.rest", [f"{name}.z"], [f"{name}.r"], "0=7 1=1 2=1")
        self._write("BinaryOp", f"{name}.odds", [f"{name}.y", f"{name}.r"], [f"{name}.o"], "0=3")
        self._write("UnaryOp", name, [f"{name}.o"], [name], f"0={_LOGARITHM}")
        self._result(node, name)

    def _layer(
        self,
        kind: str,
        name: str,
        node: fx.Node,
        *settings: str,
        made: str = "",
        result: fx.Node | None = None,
    ) -> None:
        """A layer that sees what the node sees, and makes what it makes; or what `result` does,
        together with it."""
        seen = [self._use(each) for each in _inputs(node)]
        made = made or node.name
        self._write(kind, name, seen, [made], *settings)
        self._result(result or node, made)

    def _result(self, node: fx.Node, made: str) -> None:
        uses = self.uses[node]
        self._names[node] = [made]
        if uses > 1:
            self._names[node] = [f"{made}.{number}" for number in range(uses)]
            self._write("Split", f"{made}.split", [made], self._names[node])

    def _write(self, kind: str, name: str, seen: list[str], made: list[str], *said: str) -> None:
        self._lines.append(" ".join([kind, name, f"{len(seen)} {len(made)}", *seen, *made, *said]))
        self._made += len(made)

    def _use(self, node: fx.Node) -> str:
        return self._names[_source(node)].pop(0)


def _inputs(node: fx.Node) -> list[fx.Node]:
    """Of what a node is computed: as often as it is used."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), lambda each: found.append(each))
    return found


def _formal(node: fx.Node) -> bool:
    return node.op == "get_attr" or node.target in _FORMAL


def _source(node: fx.Node) -> fx.Node:
    """What computed the numbers of a node."""
    while node.target in _FORMAL:
        node = _inputs(node)[0]
    return node

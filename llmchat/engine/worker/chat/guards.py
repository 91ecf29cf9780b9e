"""A chat template's syntax tree, rewritten so that nothing in it runs away unasked.

Owns where a template can repeat or grow (loops, macros, comparisons, `~`, the keys of a dict), each
of which is made to ask a hook of its environment first, and the tag `generation`. Refuses what the
hooks answer: the bounds are `sandbox.py`'s.
"""

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer


class Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks training data; its body is kept."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body, without the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Guards(NodeTransformer):
    """Makes a template's syntax tree ask `tick`, `bounded` and `joined` where it can run away."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        """Each round asks, and each item that a condition leaves out."""
        self.generic_visit(node)
        node.body.insert(0, self._tick(node.lineno))
        if node.test is not None:
            node.test = nodes.And(self._ask("tick", [], node.lineno), node.test, lineno=node.lineno)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        """Each call asks: a macro may call itself."""
        self.generic_visit(node)
        node.body.insert(0, self._tick(node.lineno))
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        """Both sides are measured: comparing walks all of them."""
        self.generic_visit(node)
        node.expr = self._bounded(node.expr)
        for operand in node.ops:
            operand.expr = self._bounded(operand.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Call:
        """`~` is a hook, which takes from the budget what it makes."""
        self.generic_visit(node)
        return self._ask("joined", node.nodes, node.lineno)

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        """A key is measured: hashing walks all of a tuple."""
        self.generic_visit(node)
        node.key = self._bounded(node.key)
        return node

    def _bounded(self, node: nodes.Expr) -> nodes.Expr:
        if isinstance(node, nodes.Const):
            return node
        return self._ask("bounded", [node], node.lineno)

    def _tick(self, line: int) -> nodes.ExprStmt:
        return nodes.ExprStmt(self._ask("tick", [], line), lineno=line)

    @staticmethod
    def _ask(name: str, args: list[nodes.Expr], line: int) -> nodes.Call:
        hook = nodes.EnvironmentAttribute(name, lineno=line)
        return nodes.Call(hook, args, [], None, None, lineno=line)

"""Values that a declaration reads while its file is loaded, and that may differ the next time."""

import ast
from collections import defaultdict
from collections.abc import Iterator

from datafixes.check.declaring import DeclaredFix
from datafixes.check.finding import Finding
from datafixes.check.fix_sql import moving_values
from datafixes.check.following import Follower
from datafixes.check.module import Module, attribute

_CLOCK, _CHANCE = "reads the clock", "is new each time"
_MACHINE, _FILE = (
    "differs between processes or machines",
    "reads data outside of this file",
)

# A name that ends with a dot matches every name that begins with it.
_MOVING = {
    _CLOCK: (
        "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
        "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns",
        "time.process_time", "time.localtime", "time.gmtime", "time.ctime", "time.asctime", "time.strftime",
        "pandas.Timestamp.now", "pandas.Timestamp.today", "pandas.Timestamp.utcnow", "pendulum.now", "pendulum.today",
        "arrow.now", "arrow.utcnow", "django.utils.timezone.now",
    ),
    _CHANCE: (
        "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7", "uuid.uuid8", "os.urandom", "os.getrandom", "random.",
        "secrets.", "numpy.random.", "faker.", "ulid.", "tempfile.",
    ),
    _MACHINE: (
        "os.environ", "os.environb", "os.getenv", "os.getenvb", "os.getcwd", "os.getpid", "os.getppid", "os.getlogin",
        "os.getuid", "os.uname", "os.cpu_count", "os.path.expanduser", "os.path.expandvars", "pathlib.Path.cwd",
        "pathlib.Path.home", "sys.argv", "uuid.getnode", "socket.", "getpass.", "platform.", "hash", "id",
        "alembic.context.", "alembic.op.get_context",
    ),
    _FILE: (
        "open", "input", "io.open", "codecs.open", "gzip.open", "bz2.open", "lzma.open", "zipfile.ZipFile", "os.popen",
        "os.open", "os.listdir", "os.scandir", "os.walk", "os.stat", "os.path.exists", "os.path.isfile",
        "os.path.getmtime", "os.path.getsize", "glob.glob", "glob.iglob", "fileinput.input", "linecache.getline",
        "pkgutil.get_data", "importlib.resources.", "configparser.", "sqlite3.connect", "dotenv.", "sys.stdin",
        "numpy.load", "numpy.loadtxt", "numpy.genfromtxt", "pandas.read_", "subprocess.", "urllib.request.",
        "requests.", "httpx.", "boto3.", "psycopg.connect", "psycopg2.connect", "sqlalchemy.create_engine",
        "alembic.op.get_bind",
    ),
}  # fmt: skip
_BUILT_IN = ("open", "input", "hash", "id")
# Names that only classify, or are the same each time.
_STILL = (
    "random.Random",
    "random.seed",
    "subprocess.PIPE",
    "subprocess.DEVNULL",
    "subprocess.CompletedProcess",
)
_READING_METHODS = ("read_text", "read_bytes", "iterdir", "rglob")
_ADDING = ("add", "append", "appendleft", "extend", "insert", "setdefault", "update")
_ORDERING = ("enumerate", "iter", "list", "map", "tuple", "zip")


def moving_declarations(module: Module, fixes: list[DeclaredFix]) -> Iterator[Finding]:
    """Findings about values in declarations of this file that may differ at the next load."""
    if not fixes:
        return
    reported = moving_values(module)
    for node in _Reach(module).nodes([fix.call for fix in fixes]):
        if node not in reported and isinstance(node, ast.expr) and (why := _moving(module, node)):
            shown = ast.unparse(node)
            shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
            called = (
                "()" if isinstance(module.parents.get(node), ast.Call) and _is_called(module, node) else ""
            )
            message = f"{shown}{called} {why}: the declaration may differ when it is loaded again."
            yield module.finding("FIX305", node, message)


def _is_called(module: Module, node: ast.expr) -> bool:
    call = module.parents[node]
    return isinstance(call, ast.Call) and call.func is node


def _moving(module: Module, node: ast.expr) -> str:
    """Why an expression may differ; empty if it cannot."""
    if isinstance(node, ast.Call):
        if attribute(node) in _READING_METHODS and not module.dotted(node.func).startswith(
            ("importlib.", "pkgutil.")
        ):
            return _FILE
        return _MACHINE + " (texts of a set have no order)" if _orders_a_set(node) else ""
    if not isinstance(node, ast.Name | ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return ""
    name = module.dotted(node)
    if not (_is_built_in(module, node, name) or _is_imported(module, node)):
        return ""
    if name in _STILL and not (name == "random.Random" and _without_seed(module, node)):
        return ""
    for why, names in _MOVING.items():
        if name and any(name == one or (one.endswith((".", "_")) and name.startswith(one)) for one in names):
            return why
    return ""


def _is_built_in(module: Module, node: ast.expr, name: str) -> bool:
    own = (module.functions, module.imports, module.bindings.get(module.source.tree, {}))
    return name in _BUILT_IN and _is_called(module, node) and not any(name in names for names in own)


def _is_imported(module: Module, node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in module.imports


def _without_seed(module: Module, node: ast.expr) -> bool:
    call = module.parents.get(node)
    return isinstance(call, ast.Call) and call.func is node and not call.args


def _orders_a_set(call: ast.Call) -> bool:
    """Whether a set becomes a sequence: the order of its strings differs between processes."""
    joins = isinstance(call.func, ast.Attribute) and call.func.attr == "join"
    if not joins and not (isinstance(call.func, ast.Name) and call.func.id in _ORDERING):
        return False
    return any(
        isinstance(one, ast.Set | ast.SetComp) or attribute(one) in ("set", "frozenset") for one in call.args
    )


class _Reach:
    """All parts of a declaration: expressions, the values of their names, the functions that they call."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._follower = Follower(module)
        self._classes = {
            node.name: node for node in module.source.tree.body if isinstance(node, ast.ClassDef)
        }
        self._additions = _additions(module)
        self._seen: set[ast.AST] = set()

    def nodes(self, roots: list[ast.Call]) -> Iterator[ast.AST]:
        """Every node, once."""
        waiting: list[ast.AST] = [one for root in roots for one in (root, *self._decided_by(root))]
        while waiting:
            for node in ast.walk(waiting.pop()):
                if node in self._seen:
                    continue
                self._seen.add(node)
                yield node
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    waiting += self._behind(node)

    def _behind(self, name: ast.Name) -> Iterator[ast.AST]:
        """The values of a name, what was added to it, and what decided that; or the function or class that it names."""
        for binding in self._follower.bindings(name):
            yield binding.value
            if binding.by is not None:
                yield from self._decided_by(binding.by)
        scopes = {self.module.source.tree, *self.module.around(name)}
        for added in self._additions.get(name.id, ()):
            if self.module.scope(added) in scopes:
                yield added
                yield from self._decided_by(added)
        if name.id in self.module.functions:
            yield self.module.functions[name.id]
        elif name.id in self._classes:
            yield self._classes[name.id]

    def _decided_by(self, node: ast.AST) -> Iterator[ast.AST]:
        """The conditions and loops around a node, within its function."""
        for around in self.module.around(node):
            match around:
                case ast.If() | ast.While():
                    yield around.test
                case ast.For() | ast.AsyncFor():
                    yield around.iter
                case ast.With() | ast.AsyncWith():
                    yield from (item.context_expr for item in around.items)
                case ast.Match():
                    yield around.subject
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    return


def _additions(module: Module) -> dict[str, list[ast.AST]]:
    """By name: ``name.append(...)`` and ``name[...] = ...``."""
    found: dict[str, list[ast.AST]] = defaultdict(list)
    for node in module.nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) if attr in _ADDING:
                found[name].append(node)
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name))]):
                found[name].append(node)
    return found

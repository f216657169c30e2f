"""The readers that are fuzzed: how each gets an input, from a number, and what it does with it.

An input is a mutated valid file or a valid structure with odd values in it. Every reader answers an input as a command
would: it reads the file and words what it found, or raises a UserError.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import pickle
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.reliability.mutations import ODD, mutated, mutated_value
from tests.helpers import study_files
from tests.helpers.data_folders import meta_of_tokens
from trainer.config import TrainConfig
from trainer.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class FuzzedReader:
    """A reader and its inputs."""

    file: str
    """name of the file that it is given"""
    samples: Mapping[str, bytes]
    """valid files by name"""
    read: Callable[[Path], None]
    generate: Callable[[random.Random], bytes] | None = None
    """makes a file of a valid structure with odd values"""
    beside: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    """valid files that stand beside the mutated one"""

    def write(self, folder: Path, draw: random.Random) -> bytes:
        """Write an input into a folder, and return the file's content."""
        for name, content in self.beside.items():
            (folder / name).write_bytes(content)
        if self.generate is not None and draw.random() < 0.5:
            content = self.generate(draw)
        else:
            files = list(self.samples.values())
            content = mutated(draw.choice(files), draw, others=files)
        (folder / self.file).write_bytes(content)
        return content


# texts

BRANCHES = """\
name: forked
data: {source: embedded}
tokenizer: {type: bpe, vocab_size: 512}
baseline: {n_layer: 2, n_embd: 64, n_head: 2, max_iters: 3000, lr_decay_iters: 3000, warmup_iters: 100}
start: {train: {max_iters: 3000}}
race: {iters: 500, n_embd: [96, 128], dropout: [0.1]}
horizon: {tokens: 5000000}
hours: 2
knobs: &knobs
  learning_rate: {low: 1e-4, high: 6e-3, log: true}
  weight_decay: {choices: [0.1, 0.2]}
baseline_seeds: 3
trials: 4
sampler: {type: tpe}
pruner: {type: median}
confirm: {seeds: 5, max_trials: 60}
profiles:
  cpu: {trials: 3, knobs: *knobs}
"""
CONFIG = """\
# train a small model
import os
wandb_log = False
out_dir = 'out-' + 'small'
n_layer, n_head = 4, 4
n_embd: int = 32 * n_head
learning_rate = 1e-3 if n_layer > 2 else 6e-4
max_iters = 2_000
lr_decay_iters = max_iters
min_lr = learning_rate / 10
gradient_accumulation_steps = 5 * 8
if max_iters > 10:
    warmup_iters = int(max_iters * 0.05)
dataset = f'shakespeare_{n_layer}'
my_setting = [1, 2]
"""
NANOGPT_LOG = (
    "Overriding config with config/small.py:\nn_layer = 2\nlearning_rate = 3e-3\nmax_iters = 1000\n\n"
    "Overriding: dropout = 0.1\ntokens per iteration will be: 16,384\nInitializing a new model from scratch\n"
    "number of parameters: 0.10M\n"
    + "".join(
        f"step {step}: train loss {2.4 + 200 / (step + 100):.4f}, val loss {2.5 + 200 / (step + 100):.4f}\n"
        f"iter {step}: loss {2.45 + 200 / (step + 100):.4f}, time 397.55ms, mfu 12.87%\n"
        for step in range(0, 1001, 50)
    )
)
NANOCHAT_LOG = (
    "Total batch size 524,288 => gradient accumulation steps: 1\ntotal                   : 73,531,446\n"
    + "".join(
        f"step {step:05d} | Validation bpb: {1.1 + 20 / (step + 30):.6f}\n"
        f"step {step:05d}/00400 ({step / 4:.2f}%) | loss: {4 + 50 / (step + 30):.6f} | lrm: 1.00 | dt: 95.68ms\n"
        for step in range(0, 401, 25)
    )
)
FOREIGN_LOGS = {
    "csv": "step,train_loss,val_loss\n0,4.4,4.5\n50,3.1,3.2\n",
    "jsonl": '{"step": 0, "val_loss": 4.5}\n{"step": 50, "val_loss": 3.2}\n',
    "hf": '{"log_history": [{"step": 0, "eval_loss": 4.5}, {"step": 50, "eval_loss": 3.2}]}',
    "hf screen": "{'eval_loss': 4.5, 'epoch': 0.1}\n{'loss': 4.5, 'learning_rate': 5e-05, 'epoch': 0.2}\n",
    "lightning": "Epoch 0: 100%|##| 50/50 [00:10<00:00, 4.9it/s, v_num=0, train_loss=3.1, val_loss=3.2]\n",
    "litgpt": "Epoch 1 | iter 64 step 16 | loss train: 10.1, val: n/a | iter time: 40.1 ms (step)\n",
    "llm.c": "step   10/20000 | loss 10.5 (+nanz)| norm 15.4 (+nanz)| lr 8.5e-07 | 300.1 ms\nval loss 10.3\n",
    "speedrun": "step:125/1750 val_loss:4.6 train_time:18000ms step_avg:144.0ms\n",
}
RUNS = [
    {
        "arm": arm,
        "seed": seed,
        "step": 1000,
        "val_loss": round(3.5 - 0.05 * index + 0.013 * (seed * 7 % 5), 4),
        "n_layer": 6 + index,
        "tokens": 10**7,
        "seconds": 61.5 + seed,
        "device": "cpu",
    }
    for index, arm in enumerate(("baseline", "wide", "warm"))
    for seed in range(4)
]
CURVES = [{**run, "step": step, "val_loss": run["val_loss"] + 50 / (step + 1)} for run in RUNS for step in (500, 1000)]
KEEPS = [
    {"commit": f"c{number:03d}", "val_bpb": 1.2 - 0.01 * number, "status": status, "description": f"change {number}"}
    for number, status in enumerate(("keep", "keep", "discard", "crash", "keep", "discard", "keep"))
] + [{"commit": "c000", "val_bpb": 1.2013, "status": "discard", "description": "change 0"}]
TABLES = {"runs": RUNS, "curves": CURVES, "keeps": KEEPS}


def _separated(rows: list[dict[str, Any]], delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _json_lines(rows: Any) -> bytes:
    return b"\n".join(map(_json, rows if isinstance(rows, list) else [rows]))


def _parquet(rows: Any, **options: Any) -> bytes:
    """Return rows as parquet; where Arrow has no type for them, their columns' texts."""
    listed = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    try:
        table = pa.Table.from_pylist(listed)
        return _parquet_bytes(table, **options)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        names = {str(name).encode("utf-8", "replace").decode() for row in listed for name in row}
        columns = {name: [ascii(row.get(name)) for row in listed] for name in sorted(names)}
        return _parquet_bytes(pa.table(columns), **options)


def _parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    written = io.BytesIO()
    pq.write_table(table, written, **options)
    return written.getvalue()


def _generated(valid: list[Any], write: Callable[[Any], bytes]) -> Callable[[random.Random], bytes]:
    """Return a maker of files: a valid structure with odd values in it, written by `write`."""
    return lambda draw: write(mutated_value(draw.choice(valid), draw))


def _yaml(value: Any) -> bytes:
    import yaml

    return yaml.dump(value, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")


def _study(path: Path) -> None:
    from sweeps.study.load import load

    load(path, devices_have_cuda=False)


def _config(path: Path) -> None:
    from trainer.config_file import read_file

    _ = read_file(path).remarks
    TrainConfig.from_nanogpt(path)


def _log(path: Path) -> None:
    from sweeps.diagnose.log import read_log_file
    from sweeps.diagnose.reading import plateau_of

    for run in read_log_file(path):
        plateau_of(run)


def _table(path: Path) -> None:
    from sweeps.tables import as_json, keep_words, words
    from sweeps.tables.keeps import is_keep_log, keep_log
    from sweeps.tables.rows import read_table
    from sweeps.tables.ruling import rule
    from sweeps.tables.runs import runs_of

    rows = read_table(path)
    if is_keep_log(rows):
        log = keep_log(rows)
        lines, found = keep_words.lines(log), as_json.of_keep_log(log)
    else:
        ruling = rule(runs_of(rows), min_effect=0.02)
        lines, found = words.lines(ruling), as_json.of_ruling(ruling)
    "\n".join(lines)
    json.dumps(found)


# data

META_PKL = {
    "vocab_size": 40,
    "itos": {n: chr(48 + n) for n in range(40)},
    "stoi": {chr(48 + n): n for n in range(40)},
}
META_JSON = meta_of_tokens(train=900, val=90)


def _bin(dtype: str, tokens: int, vocab_size: int) -> bytes:
    return (np.arange(tokens) * 7 % vocab_size).astype(dtype).tobytes()


def _folder(path: Path) -> None:
    from trainer.data.dataset import SPLITS, open_dataset

    dataset = open_dataset(path.parent)
    for split in SPLITS:
        dataset.tokens(split)
    _ = dataset.bytes_per_token


def _ranks(path: Path) -> None:
    from trainer.data.tokenizer import read_bpe

    tokenizer = read_bpe(path)
    tokenizer.decode(tokenizer.encode_to_numpy("The cat, the 2 cats.\n\n"))


def _encoder(path: Path) -> None:
    from trainer.data.tokenizer import gpt2

    gpt2(path).encode_to_numpy("The cat")


def _json(value: Any) -> bytes:
    return json.dumps(value, default=repr).encode("utf-8", "surrogatepass")


def _text_table(rows: int) -> pa.Table:
    texts = [f"document {number} " * (number % 7 + 1) if number % 5 else None for number in range(rows)]
    return pa.table(
        {"text": texts, "id": list(range(rows)), "part": pa.array(["a", "b"] * (rows // 2)).dictionary_encode()}
    )


def _documents(path: Path) -> None:
    from trainer.data.parquet import ParquetDocuments

    for batch in ParquetDocuments([str(path)]).read(0):
        sum(map(len, batch.texts))


# checkpoints and the store


def _saved(form: Any) -> bytes:
    import torch

    written = io.BytesIO()
    torch.save(form, written)
    return written.getvalue()


def _checkpoint_form() -> dict[str, Any]:
    import torch

    from trainer.model.gpt import GPT
    from trainer.model.optim import make_optimizer
    from trainer.run.checkpoint import nanogpt_form

    torch.manual_seed(0)
    config = TrainConfig(n_layer=1, n_head=2, n_embd=8, block_size=4, vocab_size=11, device="cpu")
    model = GPT(config)
    optimizer = make_optimizer(model, config)
    model(torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long)).backward()
    optimizer.step()
    return nanogpt_form(
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        config=config,
        dataset=Path("data/small"),
        out=Path("out"),
        iter_num=7,
        best_val_loss=2.5,
    )


def _checkpoint(path: Path) -> None:
    from trainer.run import checkpoint
    from trainer.run.origin import read_origin

    read_origin(path)
    checkpoint.load(path.parent)


def _odd_tensors() -> tuple[Any, ...]:
    import torch

    shapes = (torch.zeros(()), torch.zeros(3), torch.zeros(2, 2, dtype=torch.int32), torch.zeros(0, 5))
    return (*ODD, *shapes, torch.full((8,), float("nan")), torch.zeros(1).expand(11, 8))


def _store(path: Path) -> None:
    from sweeps.analysis.findings import Findings
    from sweeps.engine.progress import planned_runs
    from sweeps.store.locate import read
    from sweeps.store.store import Reader
    from sweeps.terminal import status_lines
    from sweeps.verdict.as_json import summarize
    from sweeps.verdict.verdict import verdict

    located, results = read(str(path))
    with Reader(located.url) as reader:
        reader.events(located.name)
    findings = Findings(results)
    "\n".join(status_lines(results, planned=planned_runs(findings), running=False))
    verdict(findings).text(width=100)
    json.dumps(summarize(findings, store=path, report=path))


def _odd_cells(store: bytes) -> Callable[[random.Random], bytes]:
    """Return a maker of stores: some cells of our tables hold odd values, or odd JSON."""

    def generate(draw: random.Random) -> bytes:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.deserialize(store)
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for _ in range(draw.choice((1, 1, 2, 4))):
                _change_the_store(connection, draw)
            connection.commit()
            return connection.serialize()

    return generate


def _change_the_store(connection: sqlite3.Connection, draw: random.Random) -> None:
    table = draw.choice(("study", "run", "run", "run", "point", "point", "event"))
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    rows = [row[0] for row in connection.execute(f"SELECT rowid FROM {table}")] if columns else []  # noqa: S608
    if not columns or not rows or draw.random() < 0.02:
        connection.execute(f"DROP TABLE IF EXISTS {table}")
        return
    column, row = draw.choice(columns), draw.choice(rows)
    with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):  # a constraint holds, or no such value
        match draw.randrange(12):
            case 0:
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
            case 1:
                connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))  # noqa: S608
            case 2:
                connection.execute(f"UPDATE {table} SET {column} = CAST(? AS TEXT) WHERE rowid = ?", (b"\xff\xfe", row))  # noqa: S608
            case _:
                held = connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (row,)).fetchone()[0]  # noqa: S608
                value = _odd_cell(held, draw)
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))  # noqa: S608


def _odd_cell(held: Any, draw: random.Random) -> Any:
    """Return an odd value for a cell; JSON stays JSON half of the time, with an odd value in it."""
    if isinstance(held, str) and held.startswith(("{", "[")) and draw.random() < 0.7:
        try:
            value = json.loads(held)
        except ValueError:  # an earlier change of the same cell has broken it
            pass
        else:
            return json.dumps(mutated_value(value, draw), default=repr)
    if isinstance(held, str) and held.startswith("{"):
        return mutated(held.encode(), draw, others=[held.encode()]).decode(errors="replace")
    odd = draw.choice(ODD)
    return json.dumps(odd, default=repr) if isinstance(odd, dict | list) else odd


def _texts(file: str, read: Callable[[Path], None], **samples: str) -> FuzzedReader:
    return FuzzedReader(file=file, samples={name: text.encode() for name, text in samples.items()}, read=read)


def _study_reader() -> FuzzedReader:
    import yaml

    valid = {"scratch": study_files.TEXT, "branches": BRANCHES}
    generate = _generated([yaml.safe_load(text) for text in valid.values()], _yaml)
    return dataclasses.replace(_texts("study.yaml", _study, **valid), generate=generate)


def _log_reader() -> FuzzedReader:
    logs = _texts("train.log", _log, nanogpt=NANOGPT_LOG, nanochat=NANOCHAT_LOG, **FOREIGN_LOGS)
    return dataclasses.replace(logs, samples={**logs.samples, "powershell": NANOGPT_LOG.encode("utf-16")})


def _table_reader(file: str, write: Callable[[Any], bytes], *, generated: bool) -> FuzzedReader:
    return FuzzedReader(
        file=file,
        samples={name: write(rows) for name, rows in TABLES.items()},
        read=_table,
        generate=_generated(list(TABLES.values()), write) if generated else None,
    )


def _parquet_reader() -> FuzzedReader:
    documents = _text_table(40)
    return FuzzedReader(
        file="text.parquet",
        samples={
            "plain": _parquet_bytes(documents, compression="none"),
            "groups": _parquet_bytes(documents, row_group_size=9, write_page_index=True, compression="zstd"),
            "version 1": _parquet_bytes(documents, version="1.0", data_page_version="2.0", use_dictionary=False),
        },
        read=_documents,
    )


def _bin_reader() -> FuzzedReader:
    return FuzzedReader(
        file="val.bin",
        samples={dtype: _bin(dtype, 64, 40) for dtype in ("uint8", "uint16", "uint32", "uint64")},
        read=_folder,
        beside={"train.bin": _bin("uint16", 400, 40)},
    )


def _meta_pkl_reader() -> FuzzedReader:
    return FuzzedReader(
        file="meta.pkl",
        samples={str(protocol): pickle.dumps(META_PKL, protocol) for protocol in (0, 2, 4, 5)},
        read=_folder,
        generate=_generated([META_PKL], pickle.dumps),
        beside={"train.bin": _bin("uint16", 400, 40), "val.bin": _bin("uint16", 64, 40)},
    )


def _meta_json_reader() -> FuzzedReader:
    return FuzzedReader(
        file="meta.json",
        samples={"meta": json.dumps(META_JSON).encode()},
        read=_folder,
        generate=_generated([META_JSON], _json),
        beside={"train.bin": _bin("uint16", 900, 257), "val.bin": _bin("uint16", 90, 257)},
    )


def _ranks_reader() -> FuzzedReader:
    from trainer.data.tokenizer import dump_ranks

    ranks = {bytes([byte]): byte for byte in range(256)} | {b"th": 256, b"the": 257, b" the": 258}
    return FuzzedReader(file="bpe.tiktoken", samples={"bpe": dump_ranks(ranks)}, read=_ranks)


def _encoder_reader() -> FuzzedReader:
    printable = {chr(33 + n): n for n in range(90)} | {"th": 90, "<|endoftext|>": 91}
    return FuzzedReader(
        file="encoder.json",
        samples={"encoder": json.dumps(printable).encode()},
        read=_encoder,
        generate=_generated([printable], _json),
    )


def _checkpoint_reader() -> FuzzedReader:
    form, odd = _checkpoint_form(), _odd_tensors()
    return FuzzedReader(
        file="ckpt.pt",
        samples={"checkpoint": _saved(form)},
        read=_checkpoint,
        generate=lambda draw: _saved(mutated_value(form, draw, odd=odd)),
    )


def _store_reader() -> FuzzedReader:
    from tests.helpers import stored_studies

    stores = stored_studies.contents()
    makers = [_odd_cells(content) for content in stores.values()]
    return FuzzedReader(file="study.db", samples=stores, read=_store, generate=lambda draw: draw.choice(makers)(draw))


READERS: dict[str, Callable[[], FuzzedReader]] = {
    "study": _study_reader,
    "config": lambda: _texts("train_small.py", _config, config=CONFIG),
    "log": _log_reader,
    "csv": lambda: _table_reader("runs.csv", lambda rows: _separated(rows, ","), generated=False),
    "tsv": lambda: _table_reader("results.tsv", lambda rows: _separated(rows, "\t"), generated=False),
    "jsonl": lambda: _table_reader("runs.jsonl", _json_lines, generated=True),
    "parquet table": lambda: _table_reader("runs.parquet", _parquet, generated=True),
    "parquet": _parquet_reader,
    "bin": _bin_reader,
    "meta.pkl": _meta_pkl_reader,
    "meta.json": _meta_json_reader,
    "ranks": _ranks_reader,
    "encoder.json": _encoder_reader,
    "checkpoint": _checkpoint_reader,
    "store": _store_reader,
}
"""what makes each reader, by its name; some take seconds to make"""


@contextlib.contextmanager
def one_probe() -> Iterator[None]:
    """Let the readers of parquet share a probe while inputs are read: a process for each would take all of the time."""
    from sweeps.tables import rows
    from trainer.data import parquet, parquet_probe

    start = parquet_probe.probing
    with contextlib.ExitStack() as stack:
        held: list[parquet_probe.Probe] = []

        @contextlib.contextmanager
        def shared() -> Iterator[parquet_probe.Probe]:
            if not held:
                held.append(stack.enter_context(start()))
            try:
                yield held[0]
            except DataError as error:
                if "ends the process" in str(error) or "encrypted columns" in str(error):
                    held.clear()
                raise

        parquet.probing = shared
        rows.parquet_probe.probing = shared  # type: ignore[attr-defined]
        try:
            yield
        finally:
            parquet.probing = parquet_probe.probing = start

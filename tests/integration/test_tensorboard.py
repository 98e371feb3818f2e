"""A real TensorBoard reads real event files of a job, from where `stager logs --path` says they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from integration.job_driver import Node
from servers.tensorboard import tensorboard

_TRAINS = """
import sys, time
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

writer = EventFileWriter("/logs/train")

def write(step, loss):
    value = Summary.Value(tag="loss", simple_value=loss)
    writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=[value])))
    writer.flush()

write(1, 0.5)
print("up", flush=True)
sys.stdin = open("/data/a/go/fifo")
sys.stdin.read()
write(2, 0.25)
writer.close()
"""


def test_c22_tensorboard_reads_the_logs_of_a_running_and_of_an_ended_job(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (tmp_path / "go").mkdir()
    fifo = tmp_path / "go" / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(_TRAINS)
    job = node.write_job(
        f'command = ["{sys.executable}", "/code/train.py"]\n[code]\nsource = "code"\n'
        f'[[dataset]]\nname = "a/go"\nsource = "bind:{tmp_path}/go"\n[logs]\npersist = "{tmp_path}/kept"\n'
    )
    with node.start("run", "--job-id", "7", job) as running:
        assert running.stdout is not None and running.stdout.readline() == "up\n"
        live = node.ask("logs", "--path", "7").out.strip()
        with tensorboard({"live": live, "kept": f"{tmp_path}/kept/7/0"}) as board:
            assert board.scalars("live/train", "loss", steps=1) == [(1, 0.5)]
            fifo.write_text("")
            _, err = running.communicate(timeout=60)
            assert running.returncode == 0, err
            assert node.ask("logs", "--path", "7").out.strip() == f"{tmp_path}/kept/7/0"
            assert board.scalars("kept/train", "loss", steps=2) == [(1, 0.5), (2, 0.25)]

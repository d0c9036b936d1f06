"""How long Ray's autoscaler takes to decide, for row M6: run by a Python that has Ray, and nothing of ours.

`python bench/ray_peer.py TASKS` prints the milliseconds of one decision: twenty node types, and tasks that each fill
one machine of one of them, as ours do. Ray packs many resources into machines, which ours has no need to: the figures
say what the decision costs each of them, not which of them packs faster.
Source: ray.autoscaler.v2.scheduler of the release pinned in bench/requirements-ray.txt.
"""

import sys
import time

from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

NODE_TYPES = 20
MOST_NODES = 100_000


def request(tasks: int) -> SchedulingRequest:
    """Return what waits: tasks spread over the node types, each with a resource that only its own type has."""
    types = {
        f"type{index}": NodeTypeConfig(
            name=f"type{index}",
            min_worker_nodes=0,
            max_worker_nodes=MOST_NODES,
            resources={"CPU": 8.0, f"slot{index}": 1.0},
        )
        for index in range(NODE_TYPES)
    }
    asked = [
        ResourceRequestUtil.make({"CPU": 8.0, f"slot{index % NODE_TYPES}": 1.0})
        for index in range(tasks)
    ]
    return SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=types,
        max_num_nodes=MOST_NODES,
        resource_requests=ResourceRequestUtil.group_by_count(asked),
    )


def main(tasks: int) -> None:
    """Time one decision."""
    asked = request(tasks)
    began = time.process_time()
    reply = ResourceDemandScheduler().schedule(asked)
    took_ms = (time.process_time() - began) * 1000
    started = sum(each.count for each in reply.to_launch)
    if started != tasks:
        raise RuntimeError(f"Ray starts {started} nodes for {tasks} tasks")
    print(took_ms)


if __name__ == "__main__":
    main(int(sys.argv[1]))

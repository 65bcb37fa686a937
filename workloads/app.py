"""Both workloads as one app: `perdure worker workloads.app:app`. All workers of a hub carry all its orchestrations."""

from perdure import App

from .memory_index import orchestrations as memory_index
from .scheduled_tasks import orchestrations as scheduled_tasks

app = App("workloads")
app.include(memory_index.app)
app.include(scheduled_tasks.app)
